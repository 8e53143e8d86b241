"""The comparison with PyTorch: the cases, and a run with a small network."""

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


def test_every_provider_is_measured_for_every_batch_size(tmp_path):
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


def test_an_unprepared_folder_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        against_pytorch.main(["measure", str(tmp_path)])
    assert stop.value.code == 2
    assert f"Received: {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--repeat 0", "expected 1 or more for --repeat. Received: 0"),
        ("--batch-size 0", "expected 1 or more for --batch-size. Received: 0"),
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
def test_pytorch_and_exports_find_the_same_instances(tmp_path):
    import onnxruntime
    import torch

    for command in (
        "prepare FOLDER --encoder resnet34 --hidden-size 16 --steps 2 --size 64 --batch-size 1",
        "measure FOLDER --batch-size 1 --repeat 1 --warm-up 0",
    ):
        words = [str(tmp_path) if word == "FOLDER" else word for word in command.split()]
        done = subprocess.run(
            [sys.executable, "benchmarks/against_pytorch.py", *words], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["rows"]
    on_cpu = {f"{row['file']} {row['provider']}": row for row in rows if row["provider"].startswith("cpu")}
    assert sorted(on_cpu) == [
        "resnet34.keras cpu",
        "resnet34.onnx cpu",
        "resnet34.torch.npz cpu",
        "resnet34.torch.npz cpu:compile=1",
    ]
    for row in on_cpu.values():
        assert row.get("agreement", 0) > 0.999, row
    on_gpu = [row for row in rows if not row["provider"].startswith("cpu")]
    assert len(on_gpu) == 17
    for row in on_gpu:
        if row["file"].endswith(".onnx"):
            name = "Tensorrt" if row["provider"].startswith("tensorrt") else "CUDA"
            usable = f"{name}ExecutionProvider" in onnxruntime.get_available_providers()
        else:
            usable = torch.cuda.is_available()
        if not usable:
            assert "median_ms" not in row
            assert row["error"].endswith(f"Received: {row['provider']}") or "ExecutionProvider" in row["error"], row
        elif torch.cuda.is_available():
            assert row.get("agreement", 0) > 0.9, row
