"""Quiet start of Keras, and helpers on the path: tests import `golden_weights`, `legacy_torch` and the like."""

import os
import pathlib
import sys

from rsis_tf.engine import quiet_start

sys.path.insert(0, str(pathlib.Path(__file__).parent))
pytest_plugins = ["skips"]
# Golden numbers are float32; NVIDIA's libraries round to TensorFloat-32 on GPUs since Ampere unless told not to.
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
quiet_start()
