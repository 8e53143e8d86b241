"""The wheel and the source distribution: what they hold, and that commands run where only the wheel is installed."""

import configparser
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterable

import pytest

pytest.importorskip("build")
pytest.importorskip("setuptools", minversion="77")

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("rsis_tf", "export")
BASE = ("numpy", "pillow", "onnxruntime")
"""What an application installs: the base and the extra `cpu`. The dependencies of onnxruntime are not imported."""

pytestmark = pytest.mark.slow


def copy_of_the_tree(target: pathlib.Path) -> pathlib.Path:
    """Copies the repository without what git ignores, because a build leaves files behind."""
    ignored = shutil.ignore_patterns(
        ".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "node_modules", "*.pyc"
    )
    return pathlib.Path(shutil.copytree(ROOT, target, ignore=ignored))


def build(source: pathlib.Path, out: pathlib.Path, *options: str) -> list[pathlib.Path]:
    command = [sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return sorted(out.iterdir())


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The wheel, built through the source distribution as `python -m build` does, and the source distribution."""
    folder = tmp_path_factory.mktemp("packaging")
    wheel, archive = build(copy_of_the_tree(folder / "tree"), folder / "dist")
    assert (wheel.suffix, archive.suffixes[-2:]) == (".whl", [".tar", ".gz"])
    return wheel, archive


def contents(wheel: pathlib.Path) -> dict[str, int]:
    """The checksum of each file in a wheel, by name."""
    with zipfile.ZipFile(wheel) as file:
        return {entry.filename: entry.CRC for entry in file.infolist()}


def modules(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.endswith(".py")}


def test_the_wheel_holds_both_packages_and_nothing_else(distributions):
    names = contents(distributions[0]).keys()
    expected = {path.relative_to(ROOT).as_posix() for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert modules(names) == expected
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    models = {path.relative_to(ROOT).as_posix() for path in (ROOT / "rsis_tf/zoo/models").glob("*/*")}
    assert models
    assert {name for name in names if name.startswith("rsis_tf/zoo/models/")} == models
    assert {name.split("/")[0] for name in names} == {
        *PACKAGES,
        next(n for n in names if "dist-info" in n).split("/")[0],
    }


def test_the_metadata_names_command_licence_and_readme(distributions):
    with zipfile.ZipFile(distributions[0]) as file:
        texts = {name.rpartition("/")[2]: file.read(name).decode() for name in file.namelist() if "dist-info" in name}
    entry_points = configparser.ConfigParser()
    entry_points.read_string(texts["entry_points.txt"])
    assert dict(entry_points["console_scripts"]) == {"rsis": "rsis_tf.cli.main:main"}
    assert texts["LICENSE"] == (ROOT / "LICENSE").read_text(encoding="utf-8")
    header, _, description = texts["METADATA"].partition("\n\n")
    assert {"Requires-Python: >=3.11", "Provides-Extra: train", "Provides-Extra: cpu"} <= set(header.splitlines())
    assert re.search(r"^License(-Expression)?: MIT$", header, re.MULTILINE)
    assert description == (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_source_distribution_builds_the_same_wheel_as_the_tree(distributions, tmp_path):
    (wheel,) = build(copy_of_the_tree(tmp_path / "tree"), tmp_path / "dist", "--wheel")
    assert contents(wheel) == contents(distributions[0])


def test_the_source_distribution_holds_tests_and_documents(distributions, tmp_path):
    shutil.unpack_archive(distributions[1], tmp_path)
    (folder,) = tmp_path.iterdir()
    for name in ("README.md", "CITATION.cff", "docs/recipe.md", "docs/nuclei.png", "train.py", "tests/conftest.py"):
        assert (folder / name).is_file(), name
    for golden in (ROOT / "tests/golden").iterdir():
        assert (folder / "tests/golden" / golden.name).is_file(), golden.name


def top_level(package: str) -> set[str]:
    """The first folders of an installed package's files, such as `numpy` and `numpy.libs`."""
    files = importlib.metadata.files(package) or ()
    return {file.parts[0] for file in files if len(file.parts) > 1 and file.parts[0] not in ("..", "__pycache__")}


@pytest.fixture(scope="module")
def installed(distributions, tmp_path_factory):
    """An environment with the wheel and links to the packages of an application; returns its folder of programs."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin/python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-index", "--no-deps"]
    done = subprocess.run([*command, str(distributions[0])], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (site,) = (folder / "lib").glob("python*/site-packages")
    for package in BASE:
        place = pathlib.Path(str(importlib.metadata.distribution(package).locate_file("")))
        for name in top_level(package):
            (site / name).symlink_to(place / name)
    return folder / "bin"


@pytest.fixture
def run(installed, tmp_path):
    """Runs a program of the environment from an empty folder, without the variables that lead to this repository."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}

    def start(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(installed / program), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)

    return start


def test_the_installed_package_is_the_one_that_runs(run, installed):
    done = run("python", "-c", "import rsis_tf, export; print(rsis_tf.__file__); print(export.__file__)")
    assert done.returncode == 0, done.stderr
    assert all(line.startswith(str(installed.parent)) for line in done.stdout.splitlines())


def test_version_and_help_of_every_command(run):
    import rsis_tf

    for program in (("rsis",), ("python", "-m", "rsis_tf")):
        done = run(*program, "--version")
        assert (done.returncode, done.stderr) == (0, "")
        assert rsis_tf.__version__ in done.stdout
    done = run("rsis", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    commands = re.findall(r"^  (\w+) {2,}", done.stdout, re.MULTILINE)
    assert {"train", "evaluate", "predict", "export", "check", "report", "benchmark", "convert"} <= set(commands)
    for name in commands:
        done = run("rsis", name, "--help")
        assert (done.returncode, done.stderr) == (0, ""), name
        assert done.stdout.startswith(f"usage: rsis {name}"), name


def test_prediction_with_the_packages_of_an_application(run, tmp_path):
    pytest.importorskip("onnx")
    from PIL import Image
    from toy_graphs import write_toy_graph

    write_toy_graph(tmp_path / "model.onnx")
    Image.new("RGB", (40, 30), (255, 0, 0)).save(tmp_path / "red.png")
    done = run("rsis", "predict", "model.onnx", "red.png", "--out", "found")
    assert (done.returncode, done.stderr) == (0, "")
    assert "red.png: 1 object: leaf 0.70" in done.stdout
    assert (tmp_path / "found/red_labels.png").is_file()


def test_prediction_with_a_model_of_the_package(run, tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 64), (90, 90, 90)).save(tmp_path / "grey.png")
    done = run("rsis", "predict", "shapes", "grey.png", "--out", "found")
    assert (done.returncode, done.stderr) == (0, "")
    assert "grey.png: " in done.stdout
    assert (tmp_path / "found/grey_labels.png").is_file()
    done = run("rsis", "zoo")
    assert (done.returncode, done.stderr) == (0, "")
    assert "shapes " in done.stdout
    program = "from rsis_tf.runtime import Predictor; print(Predictor.from_pretrained('shapes').class_names[1])"
    assert run("python", "-c", program).stdout == "circle\n"


def test_training_names_the_extra_that_it_needs(run):
    done = run("rsis", "train", "--out", "run")
    assert done.returncode == 2, done.stderr
    assert 'pip install "rsis_tf[train]"' in done.stderr
