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


def test_every_provider_is_measured_for_every_batch_size(tmp_path):
    asked = []
    for batch in (1, 8):
        for case in against_pytorch.cases(tmp_path, "resnet50", ["cpu", "cuda"], batch):
            asked.append((case.path.name, case.provider, case.batch))
    predictions = [one for one in asked if not one[0].endswith(".work.json")]
    assert len(set(predictions)) == len(predictions)
    assert {batch for _, _, batch in predictions} == {1, 8}
    assert ("resnet50_batch8.onnx", "cuda:enable_cuda_graph=1", 8) in asked
    assert ("resnet50_batch8.onnx", "cuda:enable_cuda_graph=1", 1) not in asked
    for option in ("compile=1", "channels_last=1", "hoisted=1"):
        for device in ("cpu", "cuda"):
            assert any(provider.startswith(device) and option in provider for _, provider, _ in asked), option


def test_the_floor_is_the_work_at_the_rate_of_the_same_precision():
    rows = [
        {"provider": "cuda:tf32=1", "precision": "tf32", "multiply_adds": 4000, "median_ms": 2.0},
        {"provider": "cuda:precision=fp16", "precision": "fp16", "multiply_adds": 4000, "median_ms": 1.0},
        {"provider": "cuda", "precision": "fp16", "batch": 2, "thresholds": {}, "median_ms": 3.0},
        {"provider": "cpu", "precision": "fp16", "batch": 2, "thresholds": {}, "median_ms": 3.0},
        {"provider": "cuda", "precision": "tf32", "batch": 2, "thresholds": {}, "error": "no memory"},
    ]
    against_pytorch.add_floors(rows, 1000)
    assert (rows[2]["floor_ms"], rows[2]["of_floor"]) == (0.5, 6)
    assert all("floor_ms" not in row for row in (*rows[:2], *rows[3:]))


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
        "prepare FOLDER --encoder resnet34 --hidden-size 16 --steps 2 --size 64 --batch-size 1 --weight-bits 3",
        "measure FOLDER --batch-size 1 --repeat 2 --rounds 2 --warm-up 0 --training-batch 1",
    ):
        words = [str(tmp_path) if word == "FOLDER" else word for word in command.split()]
        done = subprocess.run(
            [sys.executable, "benchmarks/against_pytorch.py", *words], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["rows"]
    on_cpu = [row for row in rows if row["provider"].startswith("cpu") and "multiply_adds" not in row]
    (early,) = [row for row in on_cpu if row["provider"] == "cpu:steps=4"]
    assert early["median_ms"] > 0
    assert "agreement" not in early  # the later steps are missing
    on_cpu.remove(early)
    files = ["resnet34.keras", "resnet34.onnx", "resnet34.torch.npz", "resnet34_batch1.tflite"]
    assert sorted({row["file"] for row in on_cpu}) == files
    for row in on_cpu:
        assert row.get("agreement", 0) > 0.999, row
        assert row["runs"] == 2
    losses = [row["loss"] for row in on_cpu if "loss" in row]
    assert len(losses) == 3  # Keras, PyTorch in two memory layouts
    predictions = [row for row in on_cpu if "loss" not in row]
    assert len(predictions) == 10
    assert all(row["of_floor"] > 0 for row in predictions)
    on_gpu = [row for row in rows if not row["provider"].startswith("cpu")]
    assert len(on_gpu) > 20
    for row in on_gpu:
        if row["file"].endswith(".onnx"):
            name = "Tensorrt" if row["provider"].startswith("tensorrt") else "CUDA"
            usable = f"{name}ExecutionProvider" in onnxruntime.get_available_providers()
        else:
            usable = torch.cuda.is_available()
        if not usable:
            assert "median_ms" not in row
            assert row["error"].endswith(f"Received: {row['provider']}") or "ExecutionProvider" in row["error"], row
        elif torch.cuda.is_available() and "multiply_adds" not in row:
            assert row.get("agreement", 0) > 0.9, row


def test_multiply_adds_of_a_graph(tmp_path):
    """A convolution of two groups, and a product with a transposed matrix, counted by hand."""
    import onnx
    from onnx import TensorProto, helper
    from work import multiply_adds

    def tensor(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def graph(side):
        nodes = [
            helper.make_node("Conv", ["x", "kernel"], ["y"], group=2, strides=[2, 2], pads=[1, 1, 1, 1]),
            helper.make_node("Flatten", ["y"], ["flat"]),
            helper.make_node("Gemm", ["flat", "matrix"], ["z"], transB=1),
        ]
        weights = [
            helper.make_tensor("kernel", TensorProto.FLOAT, [6, 2, 3, 3], [0.0] * 108),
            helper.make_tensor("matrix", TensorProto.FLOAT, [5, 96], [0.0] * 480),
        ]
        inputs, outputs = [tensor("x", ["batch", 4, side, 8])], [tensor("z", ["batch", 5])]
        model = helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, weights))
        onnx.save(model, tmp_path / "graph.onnx")
        return tmp_path / "graph.onnx"

    assert multiply_adds(graph(8), batch=3) == 3 * (6 * 4 * 4 * 2 * 3 * 3 + 5 * 96)
    with pytest.raises(ValueError, match="expected a graph of fixed shapes"):
        multiply_adds(graph("side"), batch=3)
