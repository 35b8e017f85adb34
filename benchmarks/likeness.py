"""Writes training/pictures/likeness.npz: what MNIST's training digits look like, class by class.

    python -m benchmarks.likeness [--data folder]

The same digits give the same file. MNIST is by Yann LeCun, Corinna Cortes and Christopher J. C. Burges, under CC BY-SA
3.0, and so is the file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from training.data import mnist
from training.pictures.likeness import FILE, Classes, features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="MNIST, where it is not found by itself")
    data = mnist.load(parser.parse_args().data)
    classes = Classes.fit(features(data.train_images[data.train_labels == label]) for label in range(10))
    scale = np.abs(classes.axes).max(axis=(1, 2), keepdims=True) / 127
    np.savez_compressed(
        FILE,
        means=np.rint(classes.means * 255).astype(np.uint8),
        axes=np.rint(classes.axes / scale).astype(np.int8),
        variances=classes.variances,
        rest=classes.rest,
    )


if __name__ == "__main__":
    main()
