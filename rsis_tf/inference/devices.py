"""Providers of models that are not ONNX files."""

import os

from rsis_tf.errors import InputError
from rsis_tf.runtime import Providers


def only_cpu(providers: Providers) -> bool:
    """Tells whether providers name the CPU and nothing else."""
    names = [providers] if isinstance(providers, str) else list(providers or ())
    return all(isinstance(name, str) and name.lower() in ("cpu", "cpuexecutionprovider") for name in names)


def require_cpu(providers: Providers, path: str | os.PathLike) -> None:
    """Refuses every provider except "cpu", and that one too if TensorFlow sees a GPU.

    Raises:
        InputError: with the reason.
    """
    from rsis_tf.engine import device, quiet_start

    quiet_start()
    where = device()
    if not only_cpu(providers):
        raise InputError(
            "providers are those of ONNX Runtime; export the model with export.onnx to choose one. "
            f"Received: providers={providers!r} for {path}, which runs with {where}"
        )
    if not where.endswith(" CPU"):
        raise InputError(
            "expected a process that sees no GPU for the provider cpu (set CUDA_VISIBLE_DEVICES to an empty value). "
            f"Received: providers={providers!r} for {path}, which runs with {where}"
        )
