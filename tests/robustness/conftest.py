"""One profile for all property-based tests of this folder, and the folder on the path, for `strategies`.

By default a test draws 100 examples, the same ones each time. The environment variable `PROPERTY_EXAMPLES` sets another
number; the examples are then random, and pytest's option `--hypothesis-seed` repeats them.
"""

import os
import pathlib
import sys

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "evaluation"))

_EXAMPLES = os.environ.get("PROPERTY_EXAMPLES")

# Nothing depends on the speed of the machine, and no database of examples is written.
settings.register_profile(
    "properties",
    max_examples=int(_EXAMPLES or 100),
    derandomize=_EXAMPLES is None,
    deadline=None,
    database=None,
    print_blob=False,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("properties")
