"""The imports among the modules of a source tree, read from the syntax: those inside functions count, too.

Imports under `if TYPE_CHECKING:` are left out, because they never run.
"""

import ast
import dataclasses
import pathlib
from collections.abc import Collection, Iterator, Mapping


@dataclasses.dataclass(frozen=True, order=True)
class Arrow:
    """One import statement.

    Attributes:
        source: dotted name of the importing module.
        target: dotted name of the imported module.
        place: file and line, for messages.
    """

    source: str
    target: str
    place: str

    def __str__(self) -> str:
        return f"{self.place}: {self.source} → {self.target}"


def modules(root: pathlib.Path, parts: Collection[str]) -> dict[str, pathlib.Path]:
    """Returns the path of every module, by dotted name.

    Args:
        root: folder that is on the module search path.
        parts: packages (folders) and modules (files without `.py`) in it.
    """
    paths = [path for part in parts for path in [root / f"{part}.py", *(root / part).rglob("*.py")] if path.is_file()]
    return {_dotted(path.relative_to(root)): path for path in sorted(paths)}


def _dotted(path: pathlib.PurePath) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def arrows(root: pathlib.Path, parts: Collection[str]) -> list[Arrow]:
    """Returns the imports among the modules of `modules(root, parts)`, each statement a single time."""
    known = modules(root, parts)
    found = set()
    for source, path in known.items():
        for line, name in imported_names(path, source):
            target = _longest_known(name, known)
            if target not in (None, source):
                found.add(Arrow(source, target, f"{path.relative_to(root).as_posix()}:{line}"))
    return sorted(found)


def _longest_known(name: str, known: Collection[str]) -> str | None:
    """Returns the module that a dotted name belongs to: `a.b.function` is of `a.b`. None for other packages."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name or None


def imported_names(path: pathlib.Path, module: str) -> Iterator[tuple[int, str]]:
    """Yields line and dotted name of everything that a file imports, `importlib.import_module("a.b")` included."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in _executed(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function == "import_module" and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parents = package.split(".")
    return ".".join([*parents[: len(parents) - node.level + 1], *([node.module] if node.module else [])])


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yields all nodes except those under `if TYPE_CHECKING:`."""
    yield node
    skipped: list[ast.stmt] = []
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        skipped = node.body
    for child in ast.iter_child_nodes(node):
        if child not in skipped:
            yield from _executed(child)


def circles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Returns a shortest circle through the first module of each group of modules that reach one another.

    A circle [a, b, c] means a → b → c → a.
    """
    found: list[list[str]] = []
    seen: set[str] = set()
    for start in sorted(graph):
        if start in seen:
            continue
        circle = _shortest_path_back(start, graph)
        if circle:
            found.append(circle)
            seen |= {name for name in _reachable(start, graph) if start in _reachable(name, graph)}
    return found


def _reachable(start: str, graph: Mapping[str, Collection[str]]) -> set[str]:
    reached: set[str] = set()
    todo = list(graph.get(start, ()))
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo.extend(graph.get(name, ()))
    return reached


def _shortest_path_back(start: str, graph: Mapping[str, Collection[str]]) -> list[str]:
    paths = [[start]]
    visited: set[str] = set()
    for path in paths:  # breadth first: the list grows while it is read
        for name in sorted(graph.get(path[-1], ())):
            if name == start:
                return path
            if name not in visited:
                visited.add(name)
                paths.append([*path, name])
    return []
