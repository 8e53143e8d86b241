"""Executes a notebook and stores its outputs in it: `python benchmarks/execute_notebook.py examples/leaves.ipynb`.

The notebook runs from top to bottom in an empty folder, which is removed afterwards. It is stored only if `problems`
finds none: no errors, no warnings, no paths of this machine. `tests/examples/test_notebook.py` executes it too and
compares the stored outputs with the code. Needs: pip install ".[train,notebook]".
"""

import argparse
import ast
import hashlib
import json
import os
import pathlib
import re
import tempfile
from collections.abc import Sequence
from typing import Any

from rsis_tf.errors import ArgumentParser, InputError, command_line
from rsis_tf.files import write_text

LARGEST = 2 * 1000 * 1000
"""Bytes of a notebook with its outputs."""
_ABSOLUTE_PATH = re.compile(r"""(?<![\w.:/<-])(?:/[\w.-]+){2,}|[A-Za-z]:\\\w""")


def read(path: pathlib.Path) -> dict[str, Any]:
    """Returns the content of an `.ipynb` file."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the cells that are executed, in their order."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def fingerprint(notebook: dict[str, Any]) -> str:
    """Returns the SHA-256 of the code of all cells, in hexadecimal digits."""
    code = [_joined(cell["source"]) for cell in code_cells(notebook)]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def execute(path: pathlib.Path, *, timeout: int = 1800) -> dict[str, Any]:
    """Runs a notebook in a kernel of its own, whose working folder is empty.

    Args:
        path: of the notebook.
        timeout: longest time of a cell in seconds.

    Returns:
        The notebook with new outputs and the fingerprint of its code.

    Raises:
        InputError: if a cell raises an error or takes longer.
    """
    import nbclient
    import nbformat
    from traitlets.config import Config

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        working = pathlib.Path(folder, "working")
        working.mkdir()
        client = nbclient.NotebookClient(
            notebook,
            timeout=timeout,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(working)}},
            # Sockets in the folder instead of network ports, where the system has them.
            config=Config({"KernelManager": {"transport": "ipc", "ip": f"{folder}/kernel"}} if os.name != "nt" else {}),
        )
        try:
            # The profile of the user must not decide what the cells do, nor receive their history.
            client.execute(env=os.environ | {"IPYTHONDIR": folder})
        except (nbclient.exceptions.CellExecutionError, nbclient.exceptions.CellTimeoutError) as error:
            raise InputError(f"expected cells that run in {timeout} s each. Received: {path}: {error}") from None
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "rsis_tf": {"code_sha256": fingerprint(notebook)},
    }
    executed: dict[str, Any] = json.loads(nbformat.writes(notebook))
    return executed


def problems(notebook: dict[str, Any]) -> list[str]:
    """Returns what is wrong with the outputs of a notebook, one line each."""
    found = []
    if notebook["metadata"].get("rsis_tf", {}).get("code_sha256") != fingerprint(notebook):
        found.append("the outputs belong to other code")
    if (size := len(_text(notebook).encode())) > LARGEST:
        found.append(f"{size:,} bytes are more than {LARGEST:,}")
    for number, cell in enumerate(code_cells(notebook), start=1):
        if cell["execution_count"] != number:
            found.append(f"code cell {number} was executed as number {cell['execution_count']}")
        if _shows(_joined(cell["source"])) and not cell["outputs"]:
            found.append(f"code cell {number} ends in an expression and has no output")
        for output in cell["outputs"]:
            kind = output.get("name", output["output_type"])
            if kind in ("error", "stderr"):
                found.append(f"code cell {number} has an output of the kind {kind}")
            texts = [output.get("text", ""), *(output.get("data", {}).get(f"text/{kind}", "") for kind in _TEXTS)]
            for place in _ABSOLUTE_PATH.findall("".join(map(_joined, texts))):
                found.append(f"code cell {number} has a path of the machine in its output: {place}")
    return found


_TEXTS = ("plain", "html", "markdown")


def _text(notebook: dict[str, Any]) -> str:
    return json.dumps(notebook, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _joined(text: str | list[str]) -> str:
    """Returns a text of a notebook, which is stored as a string or as a list of lines."""
    return text if isinstance(text, str) else "".join(text)


def _shows(code: str) -> bool:
    """Whether the last statement of a cell has a value, or prints one."""
    statements = ast.parse(code).body
    return bool(statements) and isinstance(statements[-1], ast.Expr)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = ArgumentParser(
        prog="python benchmarks/execute_notebook.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("notebook", type=pathlib.Path, help="the .ipynb file, which receives the outputs")
    with command_line():
        path = parser.parse_args(arguments).notebook
        if path.suffix != ".ipynb" or not path.is_file():
            raise InputError(f"expected a notebook (.ipynb). Received: {path}")
        executed = execute(path)
        if wrong := problems(executed):
            raise InputError(f"expected outputs that can be stored. Received: {'; '.join(wrong)}")
        write_text(path, _text(executed))
    print(f"{path}: {len(code_cells(executed))} code cells, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
