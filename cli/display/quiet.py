"""TensorFlow loaded without a word. It must not know what it is loaded for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading_tensorflow() -> Iterator[None]:
    """Nothing is written to this process's stderr meanwhile: TensorFlow tells all about the machine when it is loaded,
    whatever it was told, and later on unless it was told not to."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
