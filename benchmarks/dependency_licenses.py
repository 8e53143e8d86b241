"""Writes the licences of all dependencies into a document, as their packages state them.

`python benchmarks/dependency_licenses.py --out docs/dependencies.md` asks pip which packages each set of extras
installs and reads their metadata; nothing is installed. Versions are those of `.ci/constraints.txt` where it names one.
Needs a package index and pip 24 or later, which reads the licences of new packages. `bash .ci/lock` runs it.
"""

import argparse
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).parent))

from installations import ROOT, declared, is_project, read_requirement, report_of_pip

from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.files import write_text

ENVIRONMENTS = ((".[train,test,everything,heif,fonts]", "torch==2.13.0"), (".[gpu]",))
"""Requirements that are installed together; all extras occur. `cpu` is part of `train`, `runtime-gpu` of `gpu`. The
version of PyTorch is that of `.ci/install-everything`."""
BEGIN, END = "<!-- licences -->", "<!-- /licences -->"
CONSTRAINTS = ROOT / ".ci/constraints.txt"


def needed_by() -> dict[str, list[str]]:
    """Returns the direct dependencies of setup.cfg: normalised name → extras, "base" for no extra, sorted."""
    base, extras = declared()
    found: dict[str, list[str]] = {}
    for extra, requirements in [("base", base), *sorted(extras.items())]:
        for name in {read_requirement(text)[0] for text in requirements if not is_project(text)}:
            found.setdefault(name, []).append(extra)
    return found


def licence(metadata: Mapping[str, Any]) -> str:
    """Returns the licence of a package: its SPDX expression, else its short name, else its classifiers."""
    if expression := metadata.get("license_expression"):
        return str(expression)
    classifiers = [text.split("::")[-1].strip() for text in metadata.get("classifier", []) if text.startswith("Lic")]
    text = str(metadata.get("license") or "").strip()
    if text and text != "UNKNOWN" and "\n" not in text and len(text) <= 100:
        return text
    return ", ".join(classifiers) or "not stated"


def table(packages: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the Markdown table: direct dependencies first, then those that they need.

    Args:
        packages: normalised name → core metadata.
    """
    direct = needed_by()
    rows = ["| package | version | licence | extras |", "|---|---|---|---|"]
    for name in sorted(packages, key=lambda name: (name not in direct, name)):
        metadata = packages[name]
        cells = (name, metadata["version"], licence(metadata).replace("|", "/"), ", ".join(direct.get(name, ["–"])))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def collect(python_version: str) -> dict[str, dict[str, Any]]:
    """Returns the metadata of all packages that the extras install, by normalised name, without this project.

    Raises:
        InputError: when pip finds no set of versions.
    """
    found: dict[str, dict[str, Any]] = {}
    for requirements in ENVIRONMENTS:
        # One package has no wheel, and pip takes source distributions only for the machine that it runs on.
        for metadata in report_of_pip(requirements, python_version, constraints=CONSTRAINTS, platforms=()):
            found.setdefault(read_requirement(metadata["name"])[0], metadata)
    return {name: metadata for name, metadata in found.items() if not is_project(name)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = ArgumentParser(
        prog="python benchmarks/dependency_licenses.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, help=f"document with the lines {BEGIN} and {END}")
    with command_line():
        out = parser.parse_args(arguments).out
        text = out.read_text(encoding="utf-8")
        if not 0 <= text.find(BEGIN) < text.find(END):
            raise InputError(f"expected a document with the lines {BEGIN} and {END}. Received: {out}")
        packages = collect("{}.{}".format(*sys.version_info))
        before, after = text[: text.index(BEGIN)], text[text.index(END) :]
        write_text(out, f"{before}{BEGIN}\n{table(packages)}\n{after}")
    print(f"{out}: {len(packages)} packages")


if __name__ == "__main__":
    main()
