"""Options after the device in a provider of the workers here, such as "cuda:tf32=1"."""

from collections.abc import Mapping

from export.benchmarking.worker import Provider, read_provider
from rsis_tf.errors import InputError


def read_known_options(provider: str, known: Mapping[str, tuple[str, ...]]) -> Provider:
    """Returns the device and the options.

    Args:
        provider: e.g. "cuda:tf32=1,precision=bf16".
        known: name → its values.

    Raises:
        InputError: for an option or a value that is not known.
    """
    device, options = read_provider(provider)
    for name, value in options.items():
        if value not in known.get(name, ()):
            raise InputError(f"expected options of {known}. Received: {name}={value}")
    return device, options
