"""Text files are read and written as UTF-8 in every locale: every call in the code names the encoding."""

import ast
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = sorted(
    path
    for part in ("rsis_tf", "export", "examples", "benchmarks", "train.py", "evaluate.py")
    for path in ([ROOT / part] if part.endswith(".py") else (ROOT / part).rglob("*.py"))
)
OPENERS = {"av", "tarfile", "zipfile", "Image", "os", "gzip", "wave"}
"""Modules and classes whose `open` does not open a text file."""


def text_files_without_encoding(source: str) -> list[int]:
    """Returns the line numbers of calls that open, read or write a text file in the locale's encoding.

    The function `write_text` of `rsis_tf.files` always writes UTF-8; the method of that name does not.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = getattr(function.value, "id", "") if isinstance(function, ast.Attribute) else ""
        arguments = [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
        modes = [value.value for value in arguments if isinstance(value, ast.Constant) and isinstance(value.value, str)]
        binary = any("b" in mode and set(mode) <= set("rwxab+") for mode in modes)
        method = isinstance(function, ast.Attribute) and name in ("read_text", "write_text") and owner != "files"
        if method or (name in ("open", "fdopen") and owner not in OPENERS and not binary):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_call_names_the_encoding(path):
    assert text_files_without_encoding(path.read_text(encoding="utf-8")) == []


def test_calls_without_an_encoding_are_found():
    bad = "p.read_text()\np.write_text(t)\nopen(p)\np.open('w')\nopen(p, mode='w', newline='')\n"
    assert text_files_without_encoding(bad) == [1, 2, 3, 4, 5]
    good = "write_text(p, t)\nfiles.write_text(p, t)\nopen(p, 'rb')\np.open('wb')\n"
    good += "Image.open(p)\nopen(p, 'w', encoding='utf-8')\nav.open('b.mp4')\n"
    assert text_files_without_encoding(good) == []


@pytest.mark.parametrize("locale", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"PYTHONIOENCODING": "ascii"}])
def test_names_in_any_script_are_written_in_any_locale(tmp_path, locale):
    sys.path.insert(0, str(ROOT / "tests/data"))
    import label_tools as tools

    tools.cvat(tmp_path, ("train",), count=2)
    tools.change(
        tmp_path / "annotations/instances_train.json",
        lambda content: content["categories"][0].update(name="Größe 猫"),
    )
    command = [
        sys.executable,
        "-X",
        "warn_default_encoding",
        "-W",
        "error::EncodingWarning",
        "-m",
        "rsis_tf.cli.check",
    ]
    environment = {**os.environ, "PYTHONCOERCECLOCALE": "0", **locale}
    report = tmp_path / "report.json"
    done = subprocess.run(
        [*command, "--dataset", "coco", "--data", str(tmp_path), "--json", str(report)],
        capture_output=True,
        cwd=ROOT,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert "Größe 猫" in report.read_text(encoding="utf-8")
