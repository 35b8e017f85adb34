"""The backend, its devices, and how it takes a GPU's memory. `python -m training.model.devices` prints it as JSON.

Only `describe` loads a backend: the one that Keras is set to.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

# By default TensorFlow takes all memory of a GPU and JAX most of it, so only one of several workers could share it.
SHARED = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}

AVX512 = {f"avx512{part}" for part in ("f", "dq", "cd", "bw", "vl")}
DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # of NVIDIA, of AMD, of either under Windows


def share_gpu() -> None:
    """Let backends take a GPU's memory only as they need it, unless the environment says otherwise.

    It holds for this process and its children, and must be called before a backend is loaded. PyTorch does so anyway.
    """
    for name, value in SHARED.items():
        os.environ.setdefault(name, value)


def settle_blas(*, one_thread: bool) -> None:
    """Have NumPy multiply as fast as it can, unless the environment says how: in this process, where it is not loaded
    yet, and in those that it starts.

    one_thread: whether it leaves other cores to others. Its threads wait for the next product by spinning: a product of
    a few rows costs up to 60 ms of a core.
    """
    if one_thread:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if _has_avx512():  # OpenBLAS takes AMD's newest for older ones, and half of their speed
        os.environ.setdefault("OPENBLAS_CORETYPE", "SkylakeX")


def _has_avx512() -> bool:
    """Whether an AMD processor has all that OpenBLAS uses of it."""
    try:
        said = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = next((line.split() for line in said.splitlines() if line.startswith("flags")), [])
    return "AuthenticAMD" in said and set(flags) >= AVX512


def may_have_gpu() -> bool:
    """Whether a backend might compute on a GPU here; it loads none."""
    if sys.platform == "darwin":
        return os.environ.get("KERAS_BACKEND") == "torch"
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    return any(os.path.exists(device) for device in DRIVERS)


def describe() -> dict[str, Any]:
    """The backend, its version, its GPUs by name, and whether their memory is taken as it is needed.

    Raises what Keras does if the backend is unknown or not installed.
    """
    backend = import_module("keras").backend.backend()
    module = import_module(backend)
    return {
        "backend": backend,
        "version": module.__version__,
        "gpus": GPUS[backend](module),
        "shares_gpu": is_shared(backend),
    }


def memory_taken() -> dict[str, int]:
    """Bytes of each GPU that this process has taken, by the device's name; nothing where no backend is loaded."""
    keras = _imported("keras")
    module = None if keras is None else _imported(keras.backend.backend())
    return {} if module is None else MEMORY[keras.backend.backend()](module)


def _imported(name: str) -> Any:
    """A module; None where it is not imported, or just being imported by another thread."""
    module = sys.modules.get(name)
    return None if module is None or getattr(module.__spec__, "_initializing", False) else module


def is_shared(backend: str) -> bool:
    """Whether a GPU's memory is taken only as it is needed, by the environment."""
    if backend == "tensorflow":
        return os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH", "").lower() in ("true", "1")
    if backend == "jax":
        return os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE", "").lower() in ("false", "0")
    return True


def _tensorflow_gpus(tensorflow: Any) -> list[str]:
    config = tensorflow.config
    gpus = config.list_physical_devices("GPU")
    return [config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]


def _jax_gpus(jax: Any) -> list[str]:
    return [device.device_kind for device in jax.devices() if device.platform != "cpu"]


def _torch_gpus(torch: Any) -> list[str]:
    if torch.backends.mps.is_available():
        return ["Apple silicon"]
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _tensorflow_memory(tensorflow: Any) -> dict[str, int]:
    config = tensorflow.config
    gpus = [f"GPU:{number}" for number, _ in enumerate(config.list_logical_devices("GPU"))]
    return {gpu: int(config.experimental.get_memory_info(gpu)["current"]) for gpu in gpus}


def _jax_memory(jax: Any) -> dict[str, int]:
    gpus = [device for device in jax.devices() if device.platform == "gpu"]
    return {f"GPU:{gpu.id}": int((gpu.memory_stats() or {}).get("bytes_in_use", 0)) for gpu in gpus}


def _torch_memory(torch: Any) -> dict[str, int]:
    return {f"GPU:{number}": int(torch.cuda.memory_reserved(number)) for number in range(torch.cuda.device_count())}


GPUS = {"tensorflow": _tensorflow_gpus, "jax": _jax_gpus, "torch": _torch_gpus}
MEMORY = {"tensorflow": _tensorflow_memory, "jax": _jax_memory, "torch": _torch_memory}


if __name__ == "__main__":
    share_gpu()
    json.dump(describe(), sys.stdout)
