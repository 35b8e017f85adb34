"""What becomes of a test for which a machine lacks something."""

import os
from typing import NoReturn

import pytest


def lacking(what: str) -> NoReturn:
    """Leave a test out on a developer's machine for want of something; in CI, where all must run, it fails."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have what this needs: {what}")
    pytest.skip(what)
