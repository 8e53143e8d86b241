"""Quiet start of Keras, and helpers on the path: tests import `golden_weights`, `legacy_torch` and the like."""

import pathlib
import sys

from rsis_tf.engine import quiet_start

sys.path.insert(0, str(pathlib.Path(__file__).parent))
pytest_plugins = ["skips"]
quiet_start()
