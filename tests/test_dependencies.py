"""The versions that CI installs and the list of licences cover what setup.cfg asks for."""

import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import dependency_licenses  # noqa: E402
import installations  # noqa: E402

packaging = pytest.importorskip("packaging.requirements")

NOT_PINNED = {
    "torch": "`.ci/install-everything` installs a fixed CPU build",
    "onnxruntime-gpu": "CI has no GPU",
}


def pins() -> dict[str, set[str]]:
    """Normalised name → its versions in the constraints; more than one where Python versions need different ones."""
    text = dependency_licenses.CONSTRAINTS.read_text(encoding="utf-8")
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.MULTILINE):
        found.setdefault(installations.read_requirement(name)[0], set()).add(version)
    return found


def listed() -> dict[str, list[str]]:
    """Normalised name → version, licence and extras in the document."""
    text = (ROOT / "docs/dependencies.md").read_text(encoding="utf-8")
    part = text[text.index(dependency_licenses.BEGIN) : text.index(dependency_licenses.END)]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines()[3:]]
    return {name: rest for name, *rest in rows}


def requirements():
    base, extras = installations.declared()
    texts = {text for part in (base, *extras.values()) for text in part if not installations.is_project(text)}
    return [packaging.Requirement(text) for text in sorted(texts)]


def test_every_direct_dependency_has_a_licence_in_the_list():
    rows = listed()
    for name, extras in dependency_licenses.needed_by().items():
        assert name in rows, f"{name} of {', '.join(extras)}: run `bash .ci/lock`"
        assert rows[name][2] == ", ".join(extras)
        assert rows[name][1] != "not stated"


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_pinned_versions_are_those_that_setup_cfg_admits(requirement):
    name = installations.read_requirement(requirement.name)[0]
    if name in NOT_PINNED:
        assert name not in pins()
        return
    assert name in pins(), "run `bash .ci/lock`"
    assert all(requirement.specifier.contains(version) for version in pins()[name])


def test_the_list_has_the_pinned_versions():
    rows, versions = listed(), pins()
    assert len(rows) > 100
    assert [name for name in set(rows) & set(versions) if rows[name][0] not in versions[name]] == []


def test_constraints_name_no_index():
    text = dependency_licenses.CONSTRAINTS.read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^-", text, re.MULTILINE)


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({"license_expression": "MIT", "license": "text", "classifier": ["License :: OSI Approved :: X"]}, "MIT"),
        ({"license": "Apache 2.0", "classifier": ["License :: OSI Approved :: X"]}, "Apache 2.0"),
        ({"license": "Copyright\nmany lines", "classifier": ["License :: OSI Approved :: BSD License"]}, "BSD License"),
        ({"license": "UNKNOWN", "classifier": ["License :: OSI Approved :: ISC", "Topic :: Text"]}, "ISC"),
        ({"license": "UNKNOWN"}, "not stated"),
        ({}, "not stated"),
    ],
)
def test_licences_of_old_and_new_metadata(metadata, expected):
    assert dependency_licenses.licence(metadata) == expected


def test_ci_installs_the_pinned_versions():
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert "export PIP_CONSTRAINT=$PWD/.ci/constraints.txt" in script.split('stage "README"')[0]
