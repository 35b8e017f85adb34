"""What users do, with the command as they call it."""

from tests.cli.conftest import twinvec

__all__ = ["twinvec"]
