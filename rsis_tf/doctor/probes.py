"""Small programs in a process of their own, with a time limit: a crash or hang of a library is a result."""

import contextlib
import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from rsis_tf.errors import printable

PACKAGE = pathlib.Path(__file__).parents[1]
"""The folder of `rsis_tf`."""

SECONDS = 120.0
"""Time limit of a probe; TensorFlow alone may take half a minute to import from a network drive."""

TENSORFLOW = """
import tensorflow as tf
devices = tf.config.list_physical_devices()
build = tf.sysconfig.get_build_info()
answer = {
    "version": tf.__version__,
    "devices": [device.name.removeprefix("/physical_device:") for device in devices],
    "gpus": sum(device.device_type == "GPU" for device in devices),
    "cuda": build.get("cuda_version", "") if tf.test.is_built_with_cuda() else "",
}
"""

ONNXRUNTIME = """
import onnxruntime
answer = {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}
"""

# A convolution of the image 0, 1, … 15 (4×4) with nine ones; `tests/doctor/test_probes.py` builds the same graph.
SELF_TEST = """
import base64, time
import numpy, onnxruntime
begun = time.monotonic()
graph = base64.b64decode(
    "CAg6pQEKHAoFaW1hZ2UKB3dlaWdodHMSBHN1bXMiBENvbnYSCXNlbGZfdGVzdCo5CAEIAQgDCAMQAUIHd2VpZ2h0c0okAACAPwAAgD8AAIA/"
    "AACAPwAAgD8AAIA/AACAPwAAgD8AAIA/Wh8KBWltYWdlEhYKFAgBEhAKAggBCgIIAQoCCAQKAggEYh4KBHN1bXMSFgoUCAESEAoCCAEKAggB"
    "CgIIAgoCCAJCBAoAEBE="
)
session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
(sums,) = session.run(None, {"image": numpy.arange(16, dtype=numpy.float32).reshape(1, 1, 4, 4)})
answer = {"sums": sums.ravel().tolist(), "seconds": time.monotonic() - begun}
"""

ZOO = """
import pathlib, time
import rsis_tf
begun = time.monotonic()
answer = {"model": ""}
if (pathlib.Path(rsis_tf.__file__).parent / "zoo").is_dir():
    from rsis_tf.zoo import registry
    names = registry.names()
    if names:
        from rsis_tf.data.readers.synthetic import SyntheticDataset
        image = SyntheticDataset(size=(128, 128), length=1, seed=0)[0].image
        found = rsis_tf.open_model(names[0])(image)
        answer = {"model": names[0], "objects": len(found), "seconds": time.monotonic() - begun}
"""

_ANSWER = "rsis doctor: "
_END = f"""
import json, sys
sys.stdout.write({_ANSWER!r} + json.dumps(answer) + chr(10))
sys.stdout.flush()
"""


@dataclasses.dataclass(frozen=True)
class Probe:
    """The result of a probe.

    Attributes:
        answer: what the program found; None if it failed.
        error: how it failed, in one line; "" if it did not.
    """

    answer: Mapping[str, Any] | None
    error: str = ""


def run(program: str, *, seconds: float = SECONDS) -> Probe:
    """Runs a program that sets `answer` to plain values, with this Python and its packages.

    Args:
        program: Python code.
        seconds: time limit.
    """
    # -P: the current folder may hold a file such as tensorflow.py. The folder of this package comes last.
    beginning = f"import sys\nsys.path.append({str(PACKAGE.parent)!r})\n"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", beginning + program + _END],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        # A process that waits for a driver may not even end when it is killed.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        return Probe(None, f"no answer within {seconds:g} seconds")
    for line in output.decode("utf-8", "replace").splitlines():
        if line.startswith(_ANSWER):
            return Probe(json.loads(line.removeprefix(_ANSWER)))
    return Probe(None, _reason(process.returncode, errors.decode("utf-8", "replace")))


def _reason(code: int, errors: str) -> str:
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"the process crashed ({signal.Signals(-code).name})"
    return printable(lines[-1])[:300] if lines else f"the process ended with exit code {code}"
