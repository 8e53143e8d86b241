"""The notebook runs, and the outputs stored in it belong to its code."""

import copy
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import execute_notebook  # noqa: E402

NOTEBOOK = ROOT / "examples/leaves.ipynb"


def kinds(notebook):
    """What each code cell shows: the streams and types of data of its outputs."""
    return [
        [output.get("name") or sorted(output["data"]) for output in cell["outputs"]]
        for cell in execute_notebook.code_cells(notebook)
    ]


def test_the_stored_outputs_are_those_of_the_code():
    notebook = execute_notebook.read(NOTEBOOK)
    assert execute_notebook.problems(notebook) == []
    assert sum("image/jpeg" in kind for cell in kinds(notebook) for kind in cell) >= 6
    assert NOTEBOOK.stat().st_size < execute_notebook.LARGEST


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda cell: cell.update(source="1 + 2"), "the outputs belong to other code"),
        (lambda cell: cell.update(execution_count=None), "code cell 3 was executed as number None"),
        (lambda cell: cell["outputs"].append({"output_type": "error", "ename": "ValueError"}), "of the kind error"),
        (
            lambda cell: cell["outputs"].append({"output_type": "stream", "name": "stderr", "text": ["W0000"]}),
            "of the kind stderr",
        ),
        (
            lambda cell: cell["outputs"].append({"output_type": "stream", "name": "stdout", "text": ["in /home/me/x"]}),
            "path of the machine in its output: /home/me/x",
        ),
        (
            lambda cell: cell["outputs"].append({"output_type": "stream", "name": "stdout", "text": ["x" * 2_000_000]}),
            "bytes are more than 2,000,000",
        ),
    ],
)
def test_other_outputs_are_noticed(change, found):
    notebook = copy.deepcopy(execute_notebook.read(NOTEBOOK))
    change(execute_notebook.code_cells(notebook)[2])
    assert found in "\n".join(execute_notebook.problems(notebook))


def test_a_cell_without_its_output_is_noticed():
    notebook = execute_notebook.read(NOTEBOOK)
    execute_notebook.code_cells(notebook)[1]["outputs"] = []
    assert execute_notebook.problems(notebook) == ["code cell 2 ends in an expression and has no output"]


def test_wrong_arguments_give_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        execute_notebook.main(["missing.ipynb"])
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: expected a notebook (.ipynb). Received: missing.ipynb\n"


@pytest.mark.slow
def test_every_cell_runs(monkeypatch):
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    executed = execute_notebook.execute(NOTEBOOK)
    assert execute_notebook.problems(executed) == []
    assert kinds(executed) == kinds(execute_notebook.read(NOTEBOOK))
    printed = "".join("".join(o.get("text", [])) for c in execute_notebook.code_cells(executed) for o in c["outputs"])
    assert int(printed.rpartition("pixels that differ from the Keras model: ")[2].split()[0]) < 10
