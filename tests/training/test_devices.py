"""A GPU is shared unless the operator says otherwise, and the device that computes is reported."""

import json
import subprocess
import sys

import keras
import pytest

from training.model.devices import SHARED, is_shared, share_gpu


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_gpu_is_shared_after_asking_for_it(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SHARED:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    assert is_shared(backend) == (backend == "torch")  # which never takes more than it needs
    share_gpu()
    assert is_shared(backend)


def test_what_the_operator_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")
    share_gpu()
    assert not is_shared("tensorflow")
    assert not is_shared("jax")


def test_the_backend_that_runs_tells_of_itself() -> None:
    command = [sys.executable, "-m", "training.model.devices"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["backend"] == keras.backend.backend()
    assert found["version"] == sys.modules[found["backend"]].__version__
    assert found["shares_gpu"]
