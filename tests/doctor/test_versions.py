"""Version requirements, compared with the package that pip itself uses."""

import itertools

import pytest

from rsis_tf.doctor.versions import normal, satisfies, split

VERSIONS = ("1", "1.0", "1.2", "1.2.3", "1.10", "2.0.0", "2.21.0", "10.0", "9.28.0.42")
CLAUSES = (
    *(">=1.2", "<2", ">1.2,<=2.0", "==1.2.*", "!=1.2.*", "==1.2.3", "!=2.0", "~=1.2", "~=1.2.3", "~=9.0", ""),
    *("<8.0.0,>=6.31.1", ">=1.21,<1.27", "<10", ">=9.3.0.75,<10"),
)


def test_versions_are_compared_as_pip_does():
    specifiers = pytest.importorskip("packaging.specifiers")
    for version, clauses in itertools.product(VERSIONS, CLAUSES):
        expected = specifiers.SpecifierSet(clauses).contains(version)
        assert satisfies(version, clauses) == expected, (version, clauses)


@pytest.mark.parametrize(
    ("requirement", "parts"),
    [
        ("protobuf<8.0.0,>=6.31.1", ("protobuf", "<8.0.0,>=6.31.1", "")),
        ("google_pasta (>=0.1.1)", ("google-pasta", ">=0.1.1", "")),
        (
            'onnxruntime-gpu[cuda,cudnn]<1.27,>=1.21; extra == "gpu"',
            ("onnxruntime-gpu", "<1.27,>=1.21", 'extra == "gpu"'),
        ),
        ("packaging", ("packaging", "", "")),
        ("thing @ https://example.org/thing.whl", ("", "", "")),
    ],
)
def test_a_requirement_is_split(requirement, parts):
    assert split(requirement) == parts


def test_names_and_unknown_clauses():
    assert normal("Google_Pasta.x") == "google-pasta-x"
    assert satisfies("1.0", "=>2")
