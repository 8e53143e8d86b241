"""The comparison with PyTorch: what is measured, and a run of it on a small network."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import against_pytorch  # noqa: E402

from rsis_tf.errors import InputError  # noqa: E402


def test_every_way_is_measured_for_every_batch(tmp_path):
    for name in ("keras", "onnx", "torch.npz"):
        (tmp_path / f"resnet50.{name}").touch()
    for ending in ("fp16", "batch1", "batch8"):
        (tmp_path / f"resnet50_{ending}.onnx").touch()
    cases = against_pytorch.cases(tmp_path, ["cpu", "cuda"], [1, 8])
    asked = [(case.path.name, case.provider, case.batch) for case in cases]
    assert len(set(asked)) == len(asked)
    assert {batch for _, _, batch in asked} == {1, 8}
    assert ("resnet50_batch8.onnx", "cuda:enable_cuda_graph=1", 8) in asked
    assert ("resnet50_batch8.onnx", "cuda:enable_cuda_graph=1", 1) not in asked
    eager = {provider for name, provider, _ in asked if name.endswith(".npz") and "compile" not in provider}
    compiled = {provider for name, provider, _ in asked if name.endswith(".npz") and "compile" in provider}
    assert len(eager) == len(compiled) == 5
    with pytest.raises(InputError, match=r"Received: no resnet50_batch2\.onnx"):
        against_pytorch.cases(tmp_path, ["cuda"], [2])


def test_a_folder_that_was_not_prepared(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        against_pytorch.main(["measure", str(tmp_path)])
    assert stop.value.code == 2
    assert f"Received: {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--repeat 0", "expected 1 or more for --repeat. Received: 0"),
        ("--batch 0", "expected 1 or more for --batch. Received: 0"),
        ("--out no/where/result", "Received: no/where/result"),
    ],
)
def test_wrong_calls(tmp_path, options, said, capsys):
    with pytest.raises(SystemExit) as stop:
        against_pytorch.main(["measure", str(tmp_path), *options.split()])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch")
def test_both_answer_alike(tmp_path):
    for command in (
        "prepare FOLDER --encoder resnet34 --hidden-size 16 --steps 2 --size 64 --batch 1",
        "measure FOLDER --batch 1 --repeat 1 --warm-up 0",
    ):
        words = [str(tmp_path) if word == "FOLDER" else word for word in command.split()]
        done = subprocess.run(
            [sys.executable, "benchmarks/against_pytorch.py", *words], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "result.json").read_text())["rows"]
    for row in rows:
        if row["provider"].startswith("cpu"):
            assert row["agreement"] > 0.999, row
        else:
            assert "median_ms" in row or row["error"]
