"""Where a model runs that is not an ONNX file: what its library can be told of providers and threads."""

import pathlib
from collections.abc import Sequence

from rsis_tf.errors import InputError

Providers = str | Sequence[str | tuple[str, dict]] | None
"""See `rsis_tf.runtime.Predictor`."""


def only_cpu(providers: Providers) -> bool:
    names = [providers] if isinstance(providers, str) else list(providers or ())
    return all(isinstance(name, str) and name.lower() in ("cpu", "cpuexecutionprovider") for name in names)


def require_cpu(providers: Providers, path: str | pathlib.Path) -> None:
    """Refuses providers that TensorFlow does not have; "cpu" is what happens where it sees no other device."""
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


def limit_threads(threads: int) -> None:
    """Tells TensorFlow how many CPU threads an operation may take."""
    from rsis_tf.engine import quiet_start

    quiet_start()
    import keras

    if keras.backend.backend() != "tensorflow":
        raise InputError(
            f"threads are set for TensorFlow only. Received: threads={threads} with {keras.backend.backend()}"
        )
    import tensorflow as tf

    if tf.config.threading.get_intra_op_parallelism_threads() == threads:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(int(threads))
    except RuntimeError:
        raise InputError(
            "threads must be set before TensorFlow computes anything in this process. "
            f"Received: threads={threads} afterwards"
        ) from None
