"""Prints the packages that every documented `pip install` selects, as pip reports them without installing anything.

Needs a package index. The exit code is 1 if a command does not resolve, selects both `onnxruntime` and
`onnxruntime-gpu` (they share a folder), or mixes libraries of CUDA 12 and CUDA 13 (they overwrite each other).

Example:
    python benchmarks/installations.py --only gpu
"""

import argparse
import configparser
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from rsis_tf.errors import ArgumentParser, InputError, command_line

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = "rsis_tf"
SHOWN = ("tensorflow", "onnxruntime", "onnxruntime-gpu", "nvidia-cublas-cu12", "nvidia-cudnn-cu12", "torch", "ray")
"""Packages whose versions are printed."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64")
_WORD = r"""-{1,2}\w[-\w]*|"[^"]+"|'[^']+'|\.(?:\[[^]]+\])?|[A-Za-z][\w.-]*(?:\[[^]]+\])?"""


@dataclasses.dataclass(frozen=True, order=True)
class Command:
    """One `pip install` of the documentation.

    Attributes:
        requirements: what it installs, e.g. `.[train,test]`.
        place: file and line.
    """

    requirements: tuple[str, ...]
    place: str

    @property
    def extras(self) -> frozenset[str]:
        """The project's extras that it asks for."""
        return frozenset(name for text in self.requirements for name in read_requirement(text)[1] if is_project(text))


def read_requirement(text: str) -> tuple[str, tuple[str, ...]]:
    """Returns the normalised name and the extras of a requirement such as `ray[data]>=2.50`."""
    match = re.match(r"([\w.-]+)\s*(?:\[([^]]*)\])?", text)
    name = match[1] if match[1] == "." else re.sub(r"[-_.]+", "-", match[1]).lower()
    return name, tuple(extra.strip() for extra in (match[2] or "").split(",") if extra.strip())


def is_project(text: str) -> bool:
    """Tells whether a requirement is this project: its folder or its name."""
    return read_requirement(text)[0] in (".", read_requirement(PROJECT)[0])


def documentation(root: pathlib.Path = ROOT) -> list[pathlib.Path]:
    """Returns the files that may contain a `pip install`: documentation, and programs with their messages."""
    patterns = ("README.md", "docs/**/*.md", "examples/**/*", "benchmarks/*.py", "rsis_tf/**/*.py", "export/**/*.py")
    patterns += ("*.py",)
    found = {path for pattern in patterns for path in root.glob(pattern) if path.suffix in (".md", ".py")}
    return sorted(path for path in found if "node_modules" not in path.parts)


def commands(root: pathlib.Path = ROOT) -> list[Command]:
    """Returns every `pip install` in documentation and messages, sorted by its requirements."""
    return sorted(
        Command(requirements, f"{path.relative_to(root)}:{number}")
        for path in documentation(root)
        if path != pathlib.Path(__file__).resolve()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for requirements in _in_line(line)
    )


def _in_line(line: str) -> Iterator[tuple[str, ...]]:
    for match in re.finditer(rf"\bpip install((?:\s+(?:{_WORD}))+)", line):
        words = [word.strip("\"'") for word in re.findall(rf"\s+({_WORD})", match[1])]
        # A bare word after the first requirement belongs to the sentence around the command.
        named = [word for word in words if not word.startswith("-")]
        if any("{" in word for word in named):  # an f-string that inserts the extra
            continue
        requirements = named[:1] + [word for word in named[1:] if "[" in word]
        if requirements:
            yield tuple(requirements)


def declared(root: pathlib.Path = ROOT) -> tuple[list[str], dict[str, list[str]]]:
    """Returns the requirements of setup.cfg, and those of each extra."""
    parser = configparser.RawConfigParser(delimiters=("=",))
    parser.optionxform = str
    parser.read(root / "setup.cfg", encoding="utf-8")
    extras = {name: value.split("\n") for name, value in parser["options.extras_require"].items()}
    base = parser["options"]["install_requires"].split("\n")
    return _lines(base), {name: _lines(value) for name, value in extras.items()}


def _lines(lines: Iterable[str]) -> list[str]:
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def selected(extras: Iterable[str], root: pathlib.Path = ROOT) -> dict[str, str]:
    """Returns the direct requirements of the base and of some extras, by normalised name; nested extras are resolved.

    Raises:
        InputError: for an extra that setup.cfg does not declare.
    """
    base, table = declared(root)
    found = {read_requirement(text)[0]: text for text in base}
    todo, seen = list(extras), set()
    while todo:
        extra = todo.pop()
        if extra not in table:
            raise InputError(f"expected an extra of setup.cfg: {', '.join(sorted(table))}. Received: {extra}")
        if extra in seen:
            continue
        seen.add(extra)
        for text in table[extra]:
            name, inner = read_requirement(text)
            if is_project(text):
                todo.extend(inner)
            elif "[" in text or name not in found:
                found[name] = text
    return found


def conflict(packages: Iterable[str]) -> str | None:
    """Returns why packages cannot share an environment, or None."""
    packages = set(packages)
    if {"onnxruntime", "onnxruntime-gpu"} <= packages:
        return "both onnxruntime and onnxruntime-gpu"
    majors = {match[1] for name in packages if (match := re.fullmatch(r"nvidia-.*-cu(\d+)", name))}
    if len(majors) > 1:
        return f"libraries of CUDA {' and '.join(sorted(majors))}"
    return None


def ask_pip(requirements: Iterable[str], python_version: str) -> dict[str, str]:
    """Returns the version of each package that pip would install, see `report_of_pip`."""
    installed = report_of_pip(requirements, python_version)
    return {read_requirement(entry["name"])[0]: entry["version"] for entry in installed}


def report_of_pip(
    requirements: Iterable[str],
    python_version: str,
    *,
    constraints: pathlib.Path | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> list[dict[str, Any]]:
    """Returns the metadata of each package that pip would install into an empty environment.

    Environment markers are evaluated for the running Python; where they matter, `python_version` must be its version.

    Args:
        requirements: such as `.[train]`.
        python_version: "3.11", for example.
        constraints: file that fixes versions.
        platforms: tags of the wheels; without any, wheels and source distributions for this machine and this Python.

    Returns:
        Core metadata as JSON (PEP 566): `name`, `version`, `license`, `classifier` and others.

    Raises:
        InputError: when pip finds no set of versions.
    """
    wanted = [text.replace(PROJECT, ".", 1) if is_project(text) else text for text in requirements]
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        done = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
            + ["--report", str(report)]
            + (["--target", folder, "--only-binary=:all:", "--python-version", python_version] if platforms else [])
            + [word for platform in platforms for word in ("--platform", platform)]
            + (["--constraint", str(constraints)] if constraints else [])
            + wanted,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["no message"]
            last = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1])
            raise InputError(f"expected requirements that pip can satisfy. Received: {' '.join(wanted)} ({last})")
        installed = json.loads(report.read_text(encoding="utf-8"))["install"]
    return [entry["metadata"] for entry in installed]


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(description=__doc__)
    own = "{}.{}".format(*sys.version_info)
    parser.add_argument(
        "--python-version", nargs="+", default=[own], metavar="X.Y", help=f"Python to install for (default: {own})"
    )
    parser.add_argument("--only", metavar="WORD", help="check only commands that contain this word (default: all)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Prints the packages that each command selects."""
    with command_line():
        options = parse(argv)
        places: dict[tuple[str, ...], list[str]] = {}
        for command in commands():
            places.setdefault(command.requirements, []).append(command.place)
        asked = {key: value for key, value in places.items() if not options.only or options.only in " ".join(key)}
        if not asked:
            raise InputError(f"expected a word of a documented command for --only. Received: {options.only}")
        failed = False
        for version in options.python_version:
            for requirements, found in asked.items():
                start = time.perf_counter()
                print(f"Python {version}: pip install {' '.join(requirements)}    ({', '.join(found)})", flush=True)
                try:
                    packages = ask_pip(requirements, version)
                    problem = conflict(packages)
                except InputError as error:
                    packages, problem = {}, str(error)
                failed |= problem is not None
                shown = ", ".join(f"{name} {packages[name]}" for name in SHOWN if name in packages)
                seconds = time.perf_counter() - start
                print(f"    {problem or 'resolves'}: {len(packages)} packages, {shown} ({seconds:.0f} s)", flush=True)
        if failed:
            raise SystemExit(1)


if __name__ == "__main__":
    main()
