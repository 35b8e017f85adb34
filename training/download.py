"""MNIST from the network, by Keras's own downloader, apart because importing Keras takes seconds."""

import keras

from training.dataset import Dataset
from training.errors import DataError


def fetch() -> Dataset:
    """MNIST as Keras downloads it, kept in Keras's own folder. DataError when it cannot be had."""
    try:
        (train_images, train_labels), (test_images, test_labels) = keras.datasets.mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception when an address does not answer
        raise DataError(f"Keras could not download MNIST: {error}") from error
    return Dataset(
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        source="Keras's download",
    )
