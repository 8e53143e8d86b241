"""Imports point down the layers, and there are no circles; `CONTRIBUTING.md` describes the layers."""

import ast
import pathlib
import sys
from collections.abc import Mapping, Sequence

import import_graph
import pytest
from import_graph import Arrow

ROOT = pathlib.Path(__file__).parents[1]
PARTS = ("rsis_tf", "export", "train", "evaluate")

LAYERS: tuple[tuple[str, ...], ...] = (
    tuple(
        f"rsis_tf.{name}"
        for name in (
            "assignment",
            "errors",
            "files",
            "progress",
            "images",
            "engine",
            "flips",
            "ops",
            "replicas",
            "outputs",
            "runtime",
            "shapes",
            "tiles",
            "tracking",
            "zoo.registry",
        )
    ),
    ("rsis_tf.config",),
    ("rsis_tf.data", "rsis_tf.models", "rsis_tf.visualization", "rsis_tf.zoo"),
    ("rsis_tf.training", "rsis_tf.inference"),
    ("rsis_tf.evaluation", "rsis_tf.batch_prediction", "rsis_tf.doctor", "export"),
    ("rsis_tf.run", "rsis_tf.run_folder"),
    ("rsis_tf.cli", "rsis_tf.__main__", "train", "evaluate"),
)
"""Packages and modules, the lowest layer first. A package stands for its modules."""

ALIASES = ("export.runtime", "export.shapes", "rsis_tf.models.convert_pytorch", "rsis_tf.predict", "rsis_tf.predictor")
"""Old names, kept for one release: they may import anything, and nothing here may import them."""

FACE = "rsis_tf"
"""Offers names of all layers, imported when they are used. The modules here import only `__version__` from it."""

LIBRARIES = {
    "rsis_tf.runtime": {"numpy", "onnxruntime", "PIL", "pandas"},
    "rsis_tf.assignment": {"numpy"},
    "rsis_tf.flips": {"numpy"},
    "rsis_tf.tiles": {"numpy"},
    "rsis_tf.config": set(),
    "rsis_tf.zoo.registry": set(),
}
"""What these may import besides the standard library (and, for `config`, the layer below). The runtime imports the
registry when a name is opened, and works without it."""


def unit(module: str, layers: Sequence[Sequence[str]] = LAYERS) -> str | None:
    """Returns the entry of the layers that a module belongs to."""
    names = [name for layer in layers for name in layer if module == name or module.startswith(f"{name}.")]
    return max(names, key=len, default=None)


def level(name: str, layers: Sequence[Sequence[str]]) -> int:
    return next(number for number, layer in enumerate(layers) if name in layer)


def upward(arrows: Sequence[Arrow], layers: Sequence[Sequence[str]]) -> list[str]:
    """Returns a line for each import of a module in a higher layer."""
    lines = []
    for arrow in arrows:
        source, target = unit(arrow.source, layers), unit(arrow.target, layers)
        if source and target and level(target, layers) > level(source, layers):
            lines.append(f"{arrow} points up, from {source} to {target}")
    return lines


def circles(arrows: Sequence[Arrow]) -> list[str]:
    """Returns a text for each circle, with the place of every import in it."""
    graph: dict[str, set[str]] = {}
    places: dict[tuple[str, str], str] = {}
    for arrow in arrows:
        graph.setdefault(arrow.source, set()).add(arrow.target)
        places.setdefault((arrow.source, arrow.target), arrow.place)
    texts = []
    for circle in import_graph.circles(graph):
        steps = zip(circle, [*circle[1:], circle[0]], strict=True)
        texts.append(" → ".join([*circle, circle[0]]) + f" ({', '.join(places[step] for step in steps)})")
    return texts


def between_units(arrows: Sequence[Arrow], layers: Sequence[Sequence[str]]) -> list[Arrow]:
    """The same imports as arrows between packages, those within a package left out."""
    pairs = [(unit(arrow.source, layers), unit(arrow.target, layers), arrow.place) for arrow in arrows]
    return [Arrow(source, target, place) for source, target, place in pairs if source and target and source != target]


@pytest.fixture(scope="module")
def arrows():
    """All imports among the modules, except those of the aliases and of the package's face."""
    found = import_graph.arrows(ROOT, PARTS)
    assert len(found) > 200
    return [arrow for arrow in found if arrow.source not in (*ALIASES, FACE) and arrow.target != FACE]


def test_every_module_has_a_layer():
    known = import_graph.modules(ROOT, PARTS)
    assert [name for name in known if unit(name) is None and name not in (*ALIASES, FACE)] == []


def test_imports_point_down(arrows):
    found = upward(arrows, LAYERS)
    assert not found, "\n" + "\n".join(found)


def test_modules_import_one_another_in_no_circle(arrows):
    found = circles(arrows)
    assert not found, "\n" + "\n".join(found)


def test_packages_of_one_layer_import_one_another_in_no_circle(arrows):
    found = circles(between_units(arrows, LAYERS))
    assert not found, "\n" + "\n".join(found)


def test_nothing_imports_an_old_name(arrows):
    found = [str(arrow) for arrow in arrows if arrow.target in ALIASES]
    assert not found, "\n" + "\n".join(found)


def uses_of_the_face(module: str, path: pathlib.Path, known: Mapping[str, pathlib.Path]) -> list[str]:
    """Returns a line for each name that a module takes from the package's face, except its modules and the version."""
    attributes = {
        (node.lineno, f"{FACE}.{node.attr}")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == FACE
    }
    names = attributes | {(n, name) for n, name in import_graph.imported_names(path, module) if name != FACE}
    return [
        f"{path.name}:{line}: {name}"
        for line, name in sorted(names)
        if name.startswith(f"{FACE}.") and ".".join(name.split(".")[:2]) not in (*known, f"{FACE}.__version__")
    ]


def test_modules_take_only_the_version_from_the_face():
    known = import_graph.modules(ROOT, PARTS)
    found = [use for module, path in known.items() if module != FACE for use in uses_of_the_face(module, path, known)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("part", LIBRARIES)
def test_the_foundations_import_few_libraries(part):
    known = import_graph.modules(ROOT, ("rsis_tf",))
    own = {name for layer in LAYERS[:2] for name in layer} if part == "rsis_tf.config" else {part}
    own |= {"rsis_tf.zoo.registry"} if part == "rsis_tf.runtime" else set()
    foreign = set()
    for module, path in known.items():
        if unit(module) != part:
            continue
        for line, name in import_graph.imported_names(path, module):
            top = name.partition(".")[0]
            allowed = unit(name) in own if top == "rsis_tf" else top in sys.stdlib_module_names | LIBRARIES[part]
            if not allowed:
                foreign.add(f"{path.name}:{line}: {name}")
    assert foreign == set()


# The checks themselves, on packages that are wrong on purpose.

PLANTED_LAYERS = (("low",), ("middle", "beside"), ("high",))


def planted(root: pathlib.Path, files: Mapping[str, str]) -> list[Arrow]:
    for name, text in {"low/__init__.py": "", "middle/__init__.py": "", "high/__init__.py": "", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return import_graph.arrows(root, ("low", "middle", "beside", "high"))


def test_downward_imports_are_accepted(tmp_path):
    arrows = planted(
        tmp_path,
        {
            "high/a.py": "import os\nfrom middle.b import thing\nfrom . import c\n",
            "high/c.py": "def f():\n    import low\n",
            "middle/b.py": "import numpy\nfrom low import *\n",
        },
    )
    assert [(arrow.source, arrow.target) for arrow in arrows] == [
        ("high.a", "high.c"),
        ("high.a", "middle.b"),
        ("high.c", "low"),
        ("middle.b", "low"),
    ]
    assert upward(arrows, PLANTED_LAYERS) == circles(arrows) == []


@pytest.mark.parametrize(
    "statement",
    [
        "import high.b",
        "from high import b",
        "from high.b import thing",
        "def f():\n    from high.b import thing",
        "try:\n    import high.b as b\nexcept ImportError:\n    b = None",
        "import importlib\nimportlib.import_module('high.b')",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import low.x\nelse:\n    import high.b",
    ],
)
def test_an_upward_import_is_found_and_named(tmp_path, statement):
    arrows = planted(tmp_path, {"low/a.py": f"{statement}\n", "high/b.py": "thing = 1\n"})
    (line,) = upward(arrows, PLANTED_LAYERS)
    number = next(n for n, text in enumerate(statement.splitlines(), 1) if "high" in text)
    assert line == f"low/a.py:{number}: low.a → high.b points up, from low to high"


def test_imports_for_type_checkers_alone_do_not_count(tmp_path):
    text = "import typing\nif typing.TYPE_CHECKING:\n    from high.b import Thing\n"
    assert planted(tmp_path, {"low/a.py": text, "high/b.py": "class Thing: ...\n"}) == []


def test_a_circle_is_found_and_named(tmp_path):
    arrows = planted(
        tmp_path,
        {
            "low/a.py": "from low import b\n",
            "low/b.py": "def f():\n    from .c import g\n",
            "low/c.py": "import low.a\nimport low.d\n",
            "low/d.py": "",
        },
    )
    assert circles(arrows) == ["low.a → low.b → low.c → low.a (low/a.py:1, low/b.py:2, low/c.py:1)"]


def test_a_package_and_its_module_in_a_circle_are_found(tmp_path):
    arrows = planted(tmp_path, {"low/__init__.py": "from low.a import f\n", "low/a.py": "from low import g\n"})
    assert circles(arrows) == ["low → low.a → low (low/__init__.py:1, low/a.py:1)"]


def test_two_circles_are_two(tmp_path):
    files = {"low/a.py": "import low.b\n", "low/b.py": "import low.a\n"}
    files |= {"high/a.py": "import high.b\n", "high/b.py": "import high.a\nimport low.a\n"}
    assert len(circles(planted(tmp_path, files))) == 2


def test_a_circle_between_packages_without_one_between_modules_is_found(tmp_path):
    arrows = planted(
        tmp_path,
        {"middle/a.py": "import beside.a\n", "beside/a.py": "", "beside/b.py": "import middle.b\n", "middle/b.py": ""},
    )
    assert circles(arrows) == []
    (text,) = circles(between_units(arrows, PLANTED_LAYERS))
    assert text == "beside → middle → beside (beside/b.py:1, middle/a.py:1)"


def test_a_use_of_the_face_is_found_and_named(tmp_path):
    path = tmp_path / "a.py"
    text = (
        "import rsis_tf\nfrom rsis_tf import __version__, models, train\nrsis_tf.__version__\nrsis_tf.open_model('x')\n"
    )
    path.write_text(text, encoding="utf-8")
    known = {"rsis_tf": path, "rsis_tf.models": path}
    assert uses_of_the_face("a", path, known) == ["a.py:2: rsis_tf.train", "a.py:4: rsis_tf.open_model"]
