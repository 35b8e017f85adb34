"""The notebook as it was written, loop and all, from its imports to the end of `fit`; then measured as our towers are.

Arguments: path of an .npz of MNIST, seed. Prints one JSON object as its last line.
"""

import time

started = time.perf_counter()

import json  # noqa: E402  # the clock runs while modules are imported
import sys  # noqa: E402
from dataclasses import asdict  # noqa: E402

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import Input, Model  # noqa: E402
from keras.layers import Dense, Lambda  # noqa: E402
from keras.metrics import binary_accuracy  # noqa: E402
from keras.models import Sequential  # noqa: E402
from keras.ops import cast, maximum, norm, square  # noqa: E402

path, seed = sys.argv[1], int(sys.argv[2])
keras.utils.set_random_seed(seed)

with np.load(path) as archive:
    X_train, y_train, X_test, y_test = (archive[name] for name in ("x_train", "y_train", "x_test", "y_test"))
images = X_train, X_test

X_train = X_train.reshape(-1, 784)
X_test = X_test.reshape(-1, 784)
X_train = (X_train - X_train.min()) / (X_train.max() - X_train.min())
X_test = (X_test - X_test.min()) / (X_test.max() - X_test.min())


def generate_pairs(X, y):
    X_pairs, y_pairs = [], []
    for i in range(len(X)):
        label = y[i]
        positive_label_index = np.random.choice(np.where(y == label)[0])
        X_pairs.append([X[i], X[positive_label_index]])
        y_pairs.append([0])
        negative_label_index = np.random.choice(np.where(y != label)[0])
        X_pairs.append([X[i], X[negative_label_index]])
        y_pairs.append([1])
    indices = np.arange(len(X_pairs))
    np.random.shuffle(indices)
    return np.array(X_pairs)[indices], np.array(y_pairs)[indices]


X_train_pairs, y_train_pairs = generate_pairs(X_train, y_train)
X_test_pairs, y_test_pairs = generate_pairs(X_test, y_test)

input1 = Input(shape=(784,))
input2 = Input(shape=(784,))
network = Sequential([Input(shape=(784,)), Dense(512, activation="relu"), Dense(256, activation="relu"), Dense(128)])
twin1, twin2 = network(input1), network(input2)


def euclidean_distance(twins):
    twin1_output, twin2_output = twins
    return norm(twin1_output - twin2_output, axis=1, keepdims=True)


distance = Lambda(euclidean_distance)([twin1, twin2])
model = Model(inputs=[input1, input2], outputs=distance)


def contrastive_loss(y, d):
    margin = 1
    y = cast(y, d.dtype)
    loss = (1 - y) / 2 * square(d) + y / 2 * square(maximum(0.0, margin - d))
    return loss


model.compile(loss=contrastive_loss, optimizer="adam", metrics=[binary_accuracy])
model.fit(
    x=[X_train_pairs[:, 0], X_train_pairs[:, 1]],
    y=y_train_pairs[:],
    validation_data=([X_test_pairs[:, 0], X_test_pairs[:, 1]], y_test_pairs[:]),
    batch_size=32,
    epochs=5,
    verbose=0,
)
wall, cpu = time.perf_counter() - started, time.process_time()

from training.fit.evaluation import evaluate  # noqa: E402  # not the notebook's own
from training.model.embedder import Embedder  # noqa: E402

embed = Embedder(network)
evaluation = evaluate(embed(images[0]), y_train, embed(images[1]), y_test, threshold=0.5)
print(json.dumps({"wall": wall, "cpu": cpu, "backend": keras.backend.backend(), "metrics": asdict(evaluation)}))
