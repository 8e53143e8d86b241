"""Compares the predictions of the runtime under several versions of Python and NumPy, each in a new environment.

Needs a package index to install from. The exit code is 1 if two results differ, one version fails, or none can be
installed.

Example:
    python benchmarks/runtime_versions.py runs/nuclei/model.onnx --images photos --python python3.11 python3.13
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from rsis_tf.errors import ArgumentParser, InputError, command_line

PROGRAM = """
import hashlib, json, pathlib, platform, sys, time
sys.path.insert(0, sys.argv[1])
start = time.perf_counter()
from rsis_tf.runtime import Predictor
imported = time.perf_counter() - start
import numpy, onnxruntime, PIL
from PIL import Image
predictor = Predictor(sys.argv[2])
digest, instances, scores = hashlib.sha256(), 0, 0.0
for path in sorted(pathlib.Path(sys.argv[3]).glob("*.png")):
    for found in predictor(numpy.asarray(Image.open(path).convert("RGB"))):
        digest.update(numpy.packbits(found.mask).tobytes() + bytes([found.class_id, found.step]))
        instances += 1
        scores += found.score
print(json.dumps({"python": platform.python_version(), "numpy": numpy.__version__, "pillow": PIL.__version__,
    "onnxruntime": onnxruntime.__version__, "import_s": round(imported, 3), "instances": instances,
    "scores": round(scores, 4), "digest": digest.hexdigest()[:12]}))
"""
COLUMNS = ("python", "numpy", "pillow", "onnxruntime", "import_s", "instances", "scores", "digest")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("model", type=pathlib.Path, metavar="MODEL", help=".onnx file, or folder of a stepwise export")
    parser.add_argument("--images", type=pathlib.Path, required=True, metavar="DIR", help="folder with .png images")
    parser.add_argument("--python", nargs="+", default=["python3.11", "python3.12", "python3.13"], metavar="COMMAND",
                        help="commands of Python (default: python3.11 python3.12 python3.13)")  # fmt: skip
    parser.add_argument(
        "--numpy",
        nargs="+",
        default=["1.26.*", "2.*"],
        metavar="VERSION",
        help="versions of NumPy (default: 1.26.* 2.*)",
    )
    return parser.parse_args(argv)


def predict(python: str, numpy: str, model: pathlib.Path, images: pathlib.Path) -> dict[str, str | float]:
    """Creates an environment, predicts all images, and returns versions and a digest of the results."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run([python, "-m", "venv", folder], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return {"python": pathlib.Path(python).name, "numpy": numpy, "digest": "no such Python"}
        inside = str(pathlib.Path(folder) / "bin/python")
        wanted = ["--only-binary=:all:", f"numpy=={numpy}", "onnxruntime", "pillow"]
        installed = subprocess.run(
            [inside, "-m", "pip", "install", "-q", *wanted], capture_output=True, text=True, check=False
        )
        if installed.returncode:
            return {"python": pathlib.Path(python).name, "numpy": numpy, "digest": "not installable"}
        root = pathlib.Path(__file__).parents[1]
        done = subprocess.run(
            [inside, "-I", "-c", PROGRAM, str(root), str(model.absolute()), str(images.absolute())],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            return {"python": pathlib.Path(python).name, "numpy": numpy, "digest": f"failed: {last}"}
        return json.loads(done.stdout)


def main(argv: list[str] | None = None) -> None:
    """Prints one row for each pair of versions."""
    with command_line():
        options = parse(argv)
        if not options.model.exists():
            raise InputError(f"expected an exported model. Received: {options.model}, which does not exist")
        if not list(options.images.glob("*.png")):
            raise InputError(f"expected a folder with .png images. Received: {options.images}")
        print("".join(f"{name:>13}" for name in COLUMNS))
        rows = []
        for python in options.python:
            for numpy in options.numpy:
                rows.append(predict(python, numpy, options.model, options.images))
                print("".join(f"{rows[-1].get(name, ''):>13}" for name in COLUMNS), flush=True)
        digests = {row["digest"] for row in rows if "instances" in row}
        failed = [row for row in rows if str(row["digest"]).startswith("failed")]
        if len(digests) != 1 or failed:
            raise SystemExit(1)
        print("all results are the same")


if __name__ == "__main__":
    main()
