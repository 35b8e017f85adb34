"""Names for NumPy arrays, by what they hold. Shapes stand in the docstrings of the functions that take them.

Imports NumPy alone, so that every room inside `training` can use it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

AnyArray = NDArray[Any]
Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Uint8 = NDArray[np.uint8]

SIDE = 28  # pixels; the height and the width of a glyph
PIXELS = SIDE * SIDE  # of a glyph, in one row
DIMENSIONS = 128  # of an embedding
