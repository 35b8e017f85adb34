"""A tower is stored and loaded as it was, and nothing else is accepted as one."""

import importlib
import io
import json
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops
from numpy.typing import NDArray

from training.arrays import Float32, Uint8
from training.errors import TowerError
from training.model import dense
from training.model.bucketing import is_out_of_memory
from training.model.embedder import Embedder
from training.model.folding import folded
from training.model.siamese import build_network, build_twins, scaled
from training.model.storage import fingerprint, load, save
from training.recipes import NOTEBOOK, RECIPES


@pytest.fixture(scope="module")
def tower() -> Any:
    return folded(build_network(NOTEBOOK, seed=0))


@pytest.fixture(scope="module")
def file(tower: Any) -> bytes:
    return save(tower)


@pytest.fixture(scope="module")
def embedder(tower: Any) -> Embedder:
    return Embedder(tower)


@pytest.fixture(scope="module")
def glyphs() -> Uint8:
    return np.random.default_rng(0).integers(0, 256, (5000, 28, 28), np.uint8)


@pytest.fixture(scope="module")
def vectors(tower: Any, glyphs: Uint8) -> Float32:
    """Of all glyphs, by NumPy alone."""
    hidden = glyphs.reshape(-1, 784) / np.float32(255)
    weights = tower.get_weights()
    for kernel, bias in zip(weights[0:4:2], weights[1:4:2], strict=True):
        hidden = np.maximum(hidden @ kernel + bias, 0)
    found: Float32 = hidden @ weights[4] + weights[5]
    return found


@settings(deadline=None, max_examples=25)
@given(st.one_of(st.integers(0, 300), st.sampled_from([1024, 1025, 4096, 4097, 5000])), st.integers(0, 5000))
def test_row_by_row_each_glyph_has_its_own_vector(
    embedder: Embedder, glyphs: Uint8, vectors: Float32, count: int, first: int
) -> None:
    rows = (np.arange(count) + first) % len(glyphs)
    found = embedder(glyphs[rows])
    assert found.shape == (count, 128)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, vectors[rows], atol=1e-5)


@pytest.mark.parametrize("recipe", ["notebook", "quick", "default"])
@pytest.mark.parametrize("count", [0, 1, 2, 300, dense.BLOCK, dense.BLOCK + 1, 5000])
def test_numpy_computes_what_keras_does(recipe: str, count: int, glyphs: Uint8) -> None:
    file, embedder = stored(recipe)
    tower = dense.read(file)
    assert tower is not None
    found = tower(glyphs[:count])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, embedder(glyphs[:count]), atol=1e-5)


def test_numpy_computes_what_keras_does_wherever_a_glyph_has_its_ink(glyphs: Uint8) -> None:
    file, embedder = stored("default")
    tower = dense.read(file)
    assert tower is not None
    mixed = glyphs[:900].reshape(-1, 784).copy()
    mixed[::3, ~dense.WITHIN] = 0
    mixed[1::3, dense.WITHIN] = 0
    np.testing.assert_allclose(tower(mixed), embedder(mixed.reshape(-1, 28, 28)), atol=1e-5)
    one_pixel = np.eye(784, dtype=np.uint8) * 255  # each of them matters
    np.testing.assert_allclose(tower(one_pixel), embedder(one_pixel.reshape(-1, 28, 28)), atol=1e-5)


@cache
def stored(recipe: str) -> tuple[bytes, Embedder]:
    """The file of a tower of a recipe, and the same tower as Keras computes it."""
    tower = folded(build_network(RECIPES[recipe], seed=0))
    return save(tower), Embedder(tower)


def test_a_dense_tower_has_the_fingerprint_that_keras_gives_it(tower: Any, file: bytes) -> None:
    read = dense.read(file)
    assert read is not None
    assert read.fingerprint == fingerprint(tower)


@pytest.mark.parametrize(
    "hidden",
    [
        layers.Dense(64, activation="tanh"),
        layers.Dense(64, use_bias=False),
        layers.Dense(64, dtype="float16"),
        layers.Flatten(),
    ],
    ids=["activation", "bias", "dtype", "layer"],
)
def test_what_is_not_plainly_dense_is_left_to_keras(hidden: Any) -> None:
    assert dense.read(save(keras.Sequential([keras.Input((784,)), hidden, layers.Dense(128)]))) is None
    assert dense.read(save(folded(build_network(RECIPES["conv"], seed=0)))) is None


def test_weights_that_lie_outside_of_the_file_are_not_read(file: bytes, tmp_path: Path) -> None:
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as secret:
        secret["kernel"] = np.zeros((784, 512), np.float32)

    def link(stored: Any) -> None:
        del stored["layers/dense/vars/0"]
        stored["layers/dense/vars/0"] = h5py.ExternalLink(str(other), "kernel")

    def refer(stored: Any) -> None:
        del stored["layers/dense/vars/0"]
        raw = [(str(other), 0, 4 * 784 * 512)]
        stored["layers/dense/vars"].create_dataset("0", (784, 512), np.float32, external=raw)

    for change in (link, refer):
        assert dense.read(changed(file, change)) is None


def test_weights_of_another_shape_are_not_read(file: bytes) -> None:
    def widen(stored: Any) -> None:
        del stored["layers/dense/vars/1"]
        stored["layers/dense/vars/1"] = np.zeros(513, np.float32)

    assert dense.read(changed(file, widen)) is None


def changed(file: bytes, change: Callable[[Any], None]) -> bytes:
    """A tower's file, something else in its weights."""
    kept, weights = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as archive, zipfile.ZipFile(kept, "w") as copy:
        weights.write(archive.read("model.weights.h5"))
        with h5py.File(weights, "r+") as stored:
            change(stored)
        for name in ("config.json", "metadata.json"):
            copy.writestr(name, archive.read(name))
        copy.writestr("model.weights.h5", weights.getvalue())
    return kept.getvalue()


def test_flat_and_square_glyphs_have_the_same_vectors(embedder: Embedder, glyphs: Uint8) -> None:
    np.testing.assert_array_equal(embedder(glyphs[:7]), embedder(glyphs[:7].reshape(7, 784)))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 28, 28), np.float32),
        np.zeros((28, 28), np.uint8),
        np.zeros((2, 783), np.uint8),
        np.zeros((2, 392, 2), np.uint8),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_what_are_not_glyphs_is_not_embedded(embedder: Embedder, file: bytes, array: NDArray[Any]) -> None:
    for embed in (embedder, dense.read(file)):
        assert embed is not None
        with pytest.raises(TowerError, match="expected"):
            embed(array)


def test_warming_up_compiles_all_that_is_ever_needed(tower: Any, glyphs: Uint8) -> None:
    traced = []

    class Traced(layers.Layer):  # type: ignore[misc]  # Keras has no types
        def call(self, pixels: Any) -> Any:
            traced.append(pixels.shape)
            return pixels

    embedder = Embedder(keras.Sequential([keras.Input((784,)), Traced(), *tower.layers]))
    embedder.warm_up()
    before = len(traced)
    for count in (1, 2, 9, 65, 300, 2000, 5000):
        embedder(glyphs[:count])
    assert len(traced) == before or keras.backend.backend() == "torch"  # which compiles nothing


class Greedy(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Lets rows through; of more than `room` the backend that runs says that it has no memory for them."""

    room = 0

    def call(self, rows: Any) -> Any:
        backend = keras.backend.backend()
        if backend == "tensorflow":  # which waits ten seconds before it refuses what is really too much
            tensorflow = importlib.import_module("tensorflow")
            through = tensorflow.numpy_function(self.refuse, [rows], "float32")
            through.set_shape(rows.shape)
            return through
        if rows.shape[0] is None or rows.shape[0] <= self.room:
            return rows
        too_much = ops.sort(ops.sin(ops.arange(2**50, dtype="float32") * rows[0, 0]))  # 4 PiB, on a processor as well
        return rows + too_much[0]

    def refuse(self, rows: Float32) -> Float32:
        if len(rows) > self.room:
            raise MemoryError("no room")  # TensorFlow makes its ResourceExhaustedError of it
        return rows


@pytest.mark.usefixtures("costly")  # thousands of calls, where there is room for one picture
@pytest.mark.parametrize("room", [1, 300, 2048, 4096])
def test_what_memory_the_backend_has_changes_no_vector(tower: Any, glyphs: Uint8, vectors: Float32, room: int) -> None:
    greedy = Greedy()
    embedder = Embedder(keras.Sequential([keras.Input((784,)), *tower.layers, greedy]))
    greedy.room = room
    for count in (5000, 300, 5000):
        np.testing.assert_allclose(embedder(glyphs[:count]), vectors[:count], atol=1e-5)


def test_a_backend_without_memory_for_one_picture_is_an_error_each_time(glyphs: Uint8) -> None:
    network = folded(build_network(NOTEBOOK, seed=0))
    embedder = Embedder(keras.Sequential([keras.Input((784,)), *network.layers, Greedy()]))
    for _ in range(2):
        with pytest.raises(Exception, match=r".") as raised:
            embedder(glyphs[:3])
        assert is_out_of_memory(raised.value)


def test_a_tower_comes_back_as_it_was_stored(tower: Any, file: bytes, glyphs: Uint8) -> None:
    loaded = load(file)
    assert fingerprint(loaded) == fingerprint(tower)
    np.testing.assert_array_equal(Embedder(loaded)(glyphs[:100]), Embedder(tower)(glyphs[:100]))


def test_the_same_seed_builds_the_same_tower() -> None:
    assert fingerprint(folded(build_network(NOTEBOOK, seed=2**32 - 1))) == fingerprint(
        folded(build_network(NOTEBOOK, seed=2**32 - 1))
    )
    assert fingerprint(folded(build_network(NOTEBOOK, seed=0))) != fingerprint(folded(build_network(NOTEBOOK, seed=1)))


def test_a_fingerprint_does_not_depend_on_names(tower: Any) -> None:
    renamed = keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(512, activation="relu", name="first"),
            layers.Dense(256, activation="relu", name="second"),
            layers.Dense(128, name="third"),
        ],
        name="other",
    )
    renamed.set_weights(tower.get_weights())
    assert fingerprint(renamed) == fingerprint(tower)


@given(st.integers(0, 5), st.integers(0, 10**6))
@settings(deadline=None, max_examples=10)
def test_a_fingerprint_changes_with_any_bit(tower: Any, which: int, place: int) -> None:
    class Weights:
        def get_weights(self) -> list[Float32]:
            weights = [array.copy() for array in tower.get_weights()]
            weights[which].view(np.uint32).flat[place % weights[which].size] ^= 1
            return weights

    assert fingerprint(Weights()) != fingerprint(tower)


def test_twins_share_one_tower(tower: Any, glyphs: Uint8, vectors: Float32) -> None:
    twins = build_twins(tower)
    assert twins.count_params() == tower.count_params() == 566_144
    found = twins.predict_on_batch([scaled(glyphs[:9]), scaled(glyphs[9:18])])
    expected = np.linalg.norm(vectors[:9] - vectors[9:18], axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_an_image_may_be_its_own_twin(tower: Any, glyphs: Uint8) -> None:
    copy = keras.models.clone_model(tower)
    twins = build_twins(copy)
    twins.compile(loss="mse", optimizer="sgd")
    twins.train_on_batch([scaled(glyphs[:4])] * 2, np.ones((4, 1), np.float32))
    assert all(np.isfinite(weights).all() for weights in copy.get_weights())


def with_config(file: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The same tower file, its configuration changed."""
    source, target = zipfile.ZipFile(io.BytesIO(file)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                config = json.loads(content)
                change(config)
                content = json.dumps(config).encode()
            archive.writestr(name, content)
    return target.getvalue()


def first_dense(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = config["config"]["layers"][1]
    assert found["class_name"] == "Dense"
    return found


@pytest.mark.parametrize("name", RECIPES)
def test_the_tower_of_every_recipe_is_loaded(name: str) -> None:
    tower = folded(build_network(RECIPES[name], seed=0))
    assert fingerprint(load(save(tower))) == fingerprint(tower)


@pytest.mark.parametrize("layer", [layers.BatchNormalization(), layers.ReLU(), layers.Rescaling(2.0)])
def test_what_only_helps_training_is_refused(layer: Any) -> None:
    model = keras.Sequential([keras.Input((784,)), layers.Dense(128), layer])
    with pytest.raises(TowerError, match=type(layer).__name__):
        load(save(model))


def test_a_lambda_is_refused() -> None:
    model = keras.Sequential([keras.Input((784,)), layers.Lambda(lambda pixels: pixels), layers.Dense(128)])
    with pytest.raises(TowerError, match="Lambda"):
        load(save(model))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda dense: dense.update(module="os", class_name="system"), "system"),
        (lambda dense: dense.update(registered_name="theirs>Dense"), "Dense"),
        (lambda dense: dense["config"].update(activation={"class_name": "function", "config": "eval"}), "function"),
        (lambda dense: dense.update(module="keras.utils", class_name="get_file"), "get_file"),
        (lambda dense: dense.update(class_name="TorchModuleWrapper"), "TorchModuleWrapper"),
    ],
)
def test_anything_but_plain_layers_is_refused(file: bytes, change: Callable[[Any], None], named: str) -> None:
    with pytest.raises(TowerError, match=named):
        load(with_config(file, lambda config: change(first_dense(config))))


def test_a_tower_of_other_shapes_is_refused() -> None:
    with pytest.raises(TowerError, match="784 pixels"):
        load(save(keras.Sequential([keras.Input((784,)), layers.Dense(64)])))


def without_weights(file: bytes) -> bytes:
    """The same tower file with its configuration alone."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("config.json", zipfile.ZipFile(io.BytesIO(file)).read("config.json"))
    return target.getvalue()


@pytest.mark.parametrize(
    "damage",
    [lambda file: b"", lambda file: b"not an archive", lambda file: file[: len(file) // 2], without_weights],
    ids=["empty", "no archive", "half", "no weights"],
)
def test_a_damaged_file_is_refused(file: bytes, damage: Callable[[bytes], bytes]) -> None:
    with pytest.raises(TowerError):
        load(damage(file))


def test_an_archive_that_unpacks_without_end_is_refused() -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", bytes(300 * 2**20))
    with pytest.raises(TowerError, match="unpacks"):
        load(target.getvalue())
