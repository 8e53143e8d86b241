"""The reference for the Cityscapes scores: the official command, as its authors call it."""

import json
import os
import subprocess
import sys

SCRIPT = """
import numpy as np
if not hasattr(np, "in1d"):  # the released command fails with NumPy 2.4: no in1d, and counts that JSON refuses
    count = np.count_nonzero
    np.in1d, np.count_nonzero = np.isin, lambda values: int(count(values))
from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as official
official.args.gtInstancesFile, official.args.exportFile = "truth.json", "scores.json"
official.args.distanceAvailable = DISTANCES
official.main()
"""


def official(root, *, with_distances=False):
    """Scores the files in `root/results` against `root/gtFine` and returns the averages."""
    variables = {"CITYSCAPES_DATASET": str(root), "CITYSCAPES_RESULTS": str(root / "results")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("DISTANCES", str(with_distances))],
        cwd=root,
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((root / "scores.json").read_text())["averages"]
