"""What applications import is there, and loaded only for those that ask for it."""

import subprocess
import sys

import twinvec_client
from twinvec_client import public


def test_every_public_name_can_be_imported_and_no_other_is_promised() -> None:
    assert twinvec_client.__all__ == public.__all__
    for name in public.__all__:
        assert getattr(twinvec_client, name) is getattr(public, name)


def test_the_contract_loads_no_client() -> None:
    said = "import sys, twinvec_client.contract.messages; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stdout.split()
    assert not {"celery", "redis", "numpy", "PIL", "twinvec_client.client"} & set(loaded)
