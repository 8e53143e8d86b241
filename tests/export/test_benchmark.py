"""`python -m export.benchmark`: one row for each combination, consistent numbers, reasons for missing ones."""

import importlib.abc
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from export import benchmark as command
from export.benchmarking import process, rows, table, worker
from export.benchmarking.device_memory import device_memory_mb
from export.benchmarking.fastest import fastest
from export.benchmarking.rows import Case
from export.formats import FORMATS
from export.options import Thresholds
from rsis_tf.images import synthetic_image
from rsis_tf.runtime import Predictor, resize_image

IMAGE = np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def images(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        image = np.zeros((20, 24, 3), np.uint8)
        image[:, : 4 * (i + 1), :2] = 255
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="needs no CUDA build")
def test_rows_table_and_plot(toy_model, images, tmp_path, capsys):
    path = toy_model()
    out = tmp_path / "result"
    providers = ["cpu", "cpu:io_binding=1", "cuda:use_tf32=0"]
    options = ["--batch-size", "1", "2", "--images", str(images), "--repeat", "7", "--out", str(out)]
    command.main([str(path), "--provider", *providers, *options])
    stored = json.loads((tmp_path / "result.json").read_text())
    measured, refused = stored["rows"][:4], stored["rows"][4:]
    assert [(row["provider"], row["batch"]) for row in stored["rows"]] == [
        (name, batch) for name in providers for batch in (1, 2)
    ]
    for row in measured:
        assert 0 < row["median_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["images_per_second"] == pytest.approx(1000 * row["batch"] / row["median_ms"])
        assert (row["runs"], row["agreement"]) == (7, 1)
        assert row["file_mb"] == path.stat().st_size / 1e6
        assert 20 < row["host_memory_mb"] < 600  # of the worker, without the modules of this process
    for row in refused:
        assert "median_ms" not in row
        assert "CUDAExecutionProvider" in row["error"]
    assert stored["environment"]["onnxruntime"] == onnxruntime.__version__
    assert stored["environment"]["cores"] >= 1
    text = (tmp_path / "result.md").read_text()
    assert text.count("not measured: expected providers of the installed onnxruntime") == 2
    printed, last = capsys.readouterr().out.strip().rsplit("\n", 1)
    assert printed.strip() == text.strip()
    assert last.startswith(f"fastest here: {path.name} (cpu")
    with Image.open(tmp_path / "result.png") as plot:
        assert plot.width > 400


def test_times_of_the_plot_are_per_image():
    made = [{"median_ms": 8.0, "p95_ms": 12.0, "batch": 4}, {"median_ms": 3.0, "p95_ms": 5.0, "batch": 1}]
    assert table.per_image(made).tolist() == [[2, 3], [3, 5]]


def test_number_of_runs(tmp_path):
    """Every batch runs for its outputs, then come the runs for warm-up and those measured."""
    sizes = []

    def run(images: np.ndarray) -> worker.Outputs:
        sizes.append(len(images))
        return np.zeros((len(images), 1, 8, 8)), np.ones((len(images), 1, 2)), np.arange(len(images))[:, None]

    np.save(tmp_path / "images.npy", np.zeros((5, 8, 8, 3), np.uint8))
    paths = {"path": "", "images": str(tmp_path / "images.npy"), "outputs": str(tmp_path / "outputs.npz")}
    task = worker.Task(provider="cpu", batch=2, threads=None, warm_up=4, **paths)
    thresholds = Thresholds(stop_threshold=0.5, mask_threshold=0.5)
    facts, step = worker.prepare(task, lambda path, task: worker.Opened(run=run, size=(8, 8), thresholds=thresholds))
    assert facts["thresholds"] == thresholds
    assert sizes == [2] * (3 + 4)
    assert len(worker.timed(step, 6)) == 6
    assert sizes == [2] * (3 + 4 + 6)
    with np.load(tmp_path / "outputs.npz") as stored:
        assert stored["arr_2"].tolist() == [[0], [1], [0], [1], [0]]  # of five images, without the filler


def test_the_first_run_of_a_later_turn_is_not_counted(tmp_path):
    runs, code = tmp_path / "runs", tmp_path / "code.py"
    code.write_text(
        "import sys\n"
        "from export.benchmarking.worker import serve\n"
        "serve(lambda task: ({}, lambda: open(task.path, 'a', encoding='utf-8').write('.')))\n",
        encoding="utf-8",
    )
    task = worker.Task(path=str(runs), provider="cpu", batch=1, threads=1, warm_up=0, images="", outputs="")
    one = process.Process(task, worker=[str(code)], environment={"PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        one.opened()
        assert len(one.times(3)) == 3
        assert runs.read_text(encoding="utf-8") == 3 * "."
        assert len(one.times(2)) == 2
        assert runs.read_text(encoding="utf-8") == (3 + 1 + 2) * "."
    finally:
        one.close()


def test_scores_beside_a_file_appear_in_its_row(toy_model, tmp_path):
    path = toy_model()
    assert "ap" not in rows.describe(path)
    (tmp_path / "toy.onnx.scores.json").write_text('{"ap": 0.25, "ap50": null, "sbd": 1}')
    assert rows.describe(path)["ap"] == 0.25
    text = table.to_markdown([rows.describe(path)], {})
    assert text.splitlines()[2].endswith("| 0.25 |  |")


def test_layout_and_precision_are_those_of_the_json_file(toy_model, tmp_path):
    """Without the file both are unknown: the cells are empty."""
    path = toy_model()
    assert (rows.describe(path)["layout"], rows.describe(path)["precision"]) == (None, None)
    assert "None" not in table.to_markdown([rows.describe(path)], {})
    (tmp_path / "toy.onnx.json").write_text('{"layout": "loop", "precision": "int8"}', encoding="utf-8")
    assert (rows.describe(path)["layout"], rows.describe(path)["precision"]) == ("loop", "int8")


def test_a_broken_file_beside_a_model_costs_one_row(toy_model, tmp_path):
    first, other = toy_model(), tmp_path / "a$b.onnx"
    other.write_bytes(first.read_bytes())
    (tmp_path / "a$b.onnx.json").write_text("{")
    images = [np.zeros((8, 8, 3), np.uint8)]
    good, bad = rows.benchmark([Case(path=first), Case(path=other)], images=images, warm_up=0, repeat=1)
    assert good["median_ms"] > 0
    assert bad["file"] == "a$b.onnx"
    assert bad["error"].startswith("expected the JSON file of an exporter. Received: ")
    table.plot([good | {"file": "m$\\frac$.onnx"}], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 0


def test_images_fill_the_frame_as_the_model_was_trained(toy_model, tmp_path):
    model = toy_model(metadata={"aspect": "keep", "class_names": '["background", "a", "b"]', "image_size": "[8, 8]",
                                "dynamic_size": "false", "stop_threshold": "0.5", "mask_threshold": "0.5"})  # fmt: skip
    image = np.random.default_rng(0).integers(0, 256, (8, 24, 3), np.uint8)
    np.save(tmp_path / "images.npy", image[None])
    files = {"images": str(tmp_path / "images.npy"), "outputs": str(tmp_path / "outputs.npz")}
    task = worker.Task(path=str(model), provider="cpu", batch=1, threads=1, warm_up=0, verify=True, **files)
    facts, _ = worker.prepare(task)
    assert facts["aspect"] == "keep"
    with np.load(tmp_path / "outputs.npz") as stored:
        seen = [stored[name] for name in stored.files]
    for one, other in zip(seen, Predictor(model).run(resize_image(image, (8, 8), "keep")[None]), strict=True):
        np.testing.assert_array_equal(one, other)


def test_agreement_is_that_with_the_first_file(toy_model, tmp_path):
    first = toy_model()
    other = tmp_path / "other.onnx"
    other.write_bytes(toy_model(batch=1).read_bytes())
    first.write_bytes(toy_model().read_bytes())
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :4, 0] = 255
    cases = [Case(path=path, batch=batch) for path in (first, other) for batch in (1, 2)]
    made = rows.benchmark(cases, images=[image], warm_up=0, repeat=1)
    assert [row.get("agreement") for row in made] == [1, 1, 1, None]
    assert "Received: 2" in made[3]["error"]
    (bound,) = rows.benchmark([Case(path=other, provider="cpu:io_binding=1", batch=2)], images=[image], repeat=1)
    assert bound["error"] == "this file takes a batch size of 1 only. Received: 2"


def test_the_fastest_file_is_named():
    def row(file, median, agreement, batch=1):
        facts = {"file": file, "provider": "cpu", "batch": batch, "median_ms": median, "agreement": agreement}
        return facts

    exact, small, batch = row("a.onnx", 50.0, 1.0), row("b.tflite", 20.0, 0.97), row("c.onnx", 180.0, 1.0, batch=4)
    failed = {"file": "d.onnx", "provider": "cpu", "batch": 1, "error": "gone"}
    assert fastest([failed, exact, small, batch]) == [
        "fastest here: b.tflite (cpu, batch 1), 20.0 ms per image, agreement 0.970",
        "fastest here with the instances of the first file: c.onnx (cpu, batch 4), 45.0 ms per image, agreement 1.000",
    ]
    assert len(fastest([exact, batch])) == 1
    assert fastest([failed]) == []


def test_outputs_are_decoded_with_the_threshold_of_the_file(toy_model, tmp_path):
    from rsis_tf.runtime import Predictor

    metadata = dict(Predictor(toy_model()).metadata)
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, :4] = 255, 230, 0
    paths = {}
    for threshold in (0.5, 0.99):
        paths[threshold] = tmp_path / f"{threshold}.onnx"
        paths[threshold].write_bytes(toy_model(metadata={**metadata, "stop_threshold": str(threshold)}).read_bytes())
    found = {threshold: len(Predictor(path)(image)) for threshold, path in paths.items()}
    assert found[0.5] > found[0.99]
    cases = [Case(path=path) for path in paths.values()]
    made = rows.benchmark(cases, images=[image], warm_up=0, repeat=1)
    assert [row["thresholds"] for row in made] == [
        {"stop_threshold": 0.5, "mask_threshold": 0.5},
        {"stop_threshold": 0.99, "mask_threshold": 0.5},
    ]
    assert made[0]["agreement"] == 1 > made[1]["agreement"]


@pytest.mark.parametrize(
    ("provider", "said"),
    [
        ("cpu:io_binding", "expected options NAME=VALUE after the provider. Received: cpu:io_binding"),
        ("nonsense", "Received: ['nonsense']"),
    ],
)
def test_wrong_providers_get_a_reason(toy_model, provider, said):
    cases = [Case(path=toy_model(), provider=provider)]
    (row,) = rows.benchmark(cases, images=[np.zeros((8, 8, 3), np.uint8)], repeat=1)
    assert row["error"].endswith(said)


def test_files_that_cannot_be_measured_get_a_reason(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    (tmp_path / "orphan.tflite").write_bytes(b"nothing")
    cases = [Case(path=tmp_path / name) for name in ("broken.onnx", "orphan.tflite")]
    made = rows.benchmark(cases, images=[IMAGE], repeat=1)
    assert "broken.onnx" in made[0]["error"]
    assert "orphan.tflite.json" in made[1]["error"]
    assert table.to_markdown(made, {}).count("not measured: ") == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("nowhere.onnx", "Received: nowhere.onnx, which is not there"),
        ("FILE --batch-size 0", "expected 1 or more for --batch-size. Received: 0"),
        ("FILE --limit 0", "expected 1 or more for --limit. Received: 0"),
        ("FILE --threads 0", "expected 1 or more for --threads. Received: 0"),
        ("FILE --warm-up -1", "expected 0 or more for --warm-up. Received: -1"),
        ("FILE --batch two", "invalid int value: 'two'"),
        ("FILE --images nowhere", "Received: nowhere"),
        ("FILE --out no/where/result", "Received: no/where/result"),
        ("", "the following arguments are required: FILE"),
    ],
)
def test_wrong_calls(toy_model, call, message, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main([str(toy_model()) if word == "FILE" else word for word in call.split()])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_needs_no_tensorflow_for_onnx(toy_model, tmp_path):
    """Neither in the process of the command nor in that of the worker."""
    for name in ("tensorflow", "keras"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('imported {name}')", encoding="utf-8")
    command = [sys.executable, "-m", "export.benchmark", str(toy_model()), "--repeat", "1", "--out", "result"]
    root = pathlib.Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (tmp_path, root)))}
    subprocess.run(command, check=True, cwd=tmp_path, env=environment)
    (row,) = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["rows"]
    assert row["median_ms"] > 0


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Puts a program of this name on the path; the test gives the shell script that it runs."""
    folder = tmp_path / "driver"
    folder.mkdir()

    def install(script: str) -> None:
        program = folder / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        program.chmod(0o755)

    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return install


@pytest.mark.parametrize(
    ("script", "megabytes"),
    [
        ('printf "4242, 900\\n$PPID, 1536\\n77, 12\\n"', 1536),
        ('printf "$PPID, 1536\\n$PPID, 512\\n"', 2048),  # on two GPUs
        ('printf "4242, 900\\n"', None),  # other processes, or this one under another id
        ("true", None),  # no process computes
        ('printf "$PPID, [N/A]\\n"', None),  # on Windows, or without permission
        ('printf "$PPID, [Not Supported]\\n"', None),  # older drivers
        ('echo "NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver."; exit 9', None),
        (
            '[ "$*" = "--query-compute-apps=pid,used_memory --format=csv,noheader,nounits" ] && printf "$PPID, 3\\n"',
            3,
        ),
    ],
)
def test_device_memory_is_what_the_driver_counts_for_the_process(nvidia_smi, script, megabytes):
    nvidia_smi(script)
    assert device_memory_mb() == megabytes


def test_device_memory_without_a_driver(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert device_memory_mb() is None


WORKER = """
import os, sys
sys.path.insert(0, {root!r})
import numpy as np
from export.benchmarking.worker import Opened, main

def open_file(path, task):
    if os.environ.get("CUDA_VISIBLE_DEVICES") != {visible!r}:
        raise OSError("CUDA_VISIBLE_DEVICES is " + repr(os.environ.get("CUDA_VISIBLE_DEVICES")))
    def run(images):
        return np.zeros((len(images), 1, 8, 8)), np.ones((len(images), 1, 2)), np.ones((len(images), 1))
    return Opened(run=run, size=(8, 8), thresholds={{"stop_threshold": 0.5, "mask_threshold": 0.5}})

main(open_file)
"""


@pytest.mark.parametrize(
    ("provider", "visible", "device"),
    [
        ("cpu", "-1", None),
        ("CPUExecutionProvider", "-1", None),
        ("cuda:use_tf32=0", "0", 1536),
        ("tensorrt", "0", 1536),
    ],
)
def test_rows_of_the_cpu_see_no_gpu_and_others_give_its_memory(
    nvidia_smi, monkeypatch, tmp_path, provider, visible, device
):
    nvidia_smi(
        'case "$1" in --query-compute*) printf "$PPID, 1536\\n";; *) echo "NVIDIA H100, 570.1, 81559 MiB";; esac'
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    program = tmp_path / "worker.py"
    program.write_text(WORKER.format(root=str(pathlib.Path(__file__).parents[2]), visible=visible), encoding="utf-8")
    case = Case(path=program, provider=provider, worker=(str(program),))
    (row,) = rows.benchmark([case], images=[IMAGE], repeat=1)
    assert row.get("error") is None
    assert row["device_memory_mb"] == device
    assert row["host_memory_mb"] > 10
    header, _, line = table.to_markdown([row], {}).splitlines()[:3]
    cells = dict(zip(header.split(" | "), line.split(" | "), strict=True))
    assert cells["device MB"] == ("1536" if device else "–")
    assert table.environment()["gpu"] == "NVIDIA H100, 570.1, 81559 MiB"


@pytest.mark.parametrize(
    ("provider", "asked"),
    [
        ("cpu", [("cpu", {})]),
        ("cuda:use_tf32=0", [("cuda", {"use_tf32": "0"})]),
        ("tensorrt", [("tensorrt", {}), ("cuda", {}), ("cpu", {})]),
        (
            "TensorrtExecutionProvider:trt_fp16_enable=1,use_tf32=0,device_id=1",
            [
                ("TensorrtExecutionProvider", {"trt_fp16_enable": "1", "device_id": "1"}),
                ("cuda", {"use_tf32": "0", "device_id": "1"}),
                ("cpu", {}),
            ],
        ),
    ],
)
def test_nodes_that_tensorrt_cannot_run_go_to_cuda(provider, asked):
    assert worker.with_fallback(*worker.read_provider(provider)) == asked


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("cpu", "cpu"),
        ("CPUExecutionProvider", "cpu"),
        ("OpenVINOExecutionProvider", "cpu"),
        ("cuda", "cuda"),
        ("CUDAExecutionProvider", "cuda"),
        ("tensorrt", "cuda"),
        ("TensorrtExecutionProvider", "cuda"),
    ],
)
def test_tensors_are_bound_where_the_provider_computes(name, device):
    assert worker.device_of(name) == device


def test_the_full_name_of_the_cpu_is_bound_on_the_cpu(toy_model):
    provider = "CPUExecutionProvider:io_binding=1"
    (row,) = rows.benchmark([Case(path=toy_model(), provider=provider)], images=[IMAGE], repeat=1)
    assert row.get("error") is None
    assert row["median_ms"] > 0


def test_exit_code_is_1_if_no_file_could_be_measured(toy_model, tmp_path, capsys):
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    arguments = ["--provider", "nonsense", "--repeat", "1", "--out", str(tmp_path / "result")]
    with pytest.raises(SystemExit) as stop:
        command.main([str(tmp_path / "broken.onnx"), *arguments])
    assert stop.value.code == 1
    assert "error: no file could be measured" in capsys.readouterr().err
    assert "not measured: " in (tmp_path / "result.md").read_text(encoding="utf-8")
    command.main([str(tmp_path / "broken.onnx"), str(toy_model()), "--repeat", "1", "--out", str(tmp_path / "other")])


LOGGING_WORKER = """
import sys
sys.path.insert(0, {root!r})
from export.benchmarking.worker import serve

def prepare(task):
    print("libraries may print")  # must not be taken for an answer
    if task.provider == "cpu:slow=1":
        import time
        time.sleep(60)
    if task.provider == "cpu:broken=1":
        sys.exit("out of memory")
    def step():
        with open({log!r}, "a") as file:
            print(task.batch, file=file)
    return {{"loss": 2.0 / task.batch}}, step

serve(prepare)
"""


def test_cases_are_measured_in_turns(tmp_path):
    """A case that ends or is late gets a reason and stops no other; losses are compared with the first."""
    program, log = tmp_path / "worker.py", tmp_path / "log.txt"
    program.write_text(LOGGING_WORKER.format(root=str(pathlib.Path(__file__).parents[2]), log=str(log)), "utf-8")
    asked = [("cpu:slow=1", 1), ("cpu", 1), ("cpu:broken=1", 1), ("cpu", 2)]
    cases = [Case(path=program, provider=name, batch=batch, worker=(str(program),)) for name, batch in asked]
    reported = []
    turns = rows.Turns(together=4, starting=4, rounds=2, start_seconds=10)
    made = rows.benchmark(
        cases,
        images=[IMAGE],
        repeat=3,
        turns=turns,
        report=lambda found: reported.append([row.get("runs") for row in found]),
    )
    assert log.read_text().split() == "1 1 2 2 1 1 2 2".split()  # of a later turn, one run is not counted
    assert reported == [[None, 2, None, 2], [None, 3, None, 3]]
    assert made[0]["error"].startswith("no answer in ")
    assert made[2]["error"] == "ended with code 1: out of memory"
    assert (made[1]["agreement"], made[3]["agreement"]) == (1, 0.5)
    assert "| loss |" in table.to_markdown(made, {}).replace("|", "| ").replace("|  ", "| ")


def test_memory_is_a_difference_where_the_driver_does_not_know_the_process(nvidia_smi, monkeypatch, tmp_path):
    """As in containers in which processes have other ids than the driver sees: what the end of the process frees."""
    flag = tmp_path / "ended"
    nvidia_smi(
        f'case "$1" in --query-compute*) printf "4242, 900\\n";; '
        f"--query-gpu=memory.used) if [ -e {flag} ]; then echo 400; else echo 900; echo 100; touch {flag}; fi;; esac"
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    program = tmp_path / "worker.py"
    program.write_text(WORKER.format(root=str(pathlib.Path(__file__).parents[2]), visible="0"), encoding="utf-8")
    case = Case(path=program, provider="cuda", worker=(str(program),))
    (row,) = rows.benchmark([case], images=[IMAGE], repeat=1)
    assert row["device_memory_mb"] == 600
    nvidia_smi('case "$1" in --query-gpu=memory.used) printf "[N/A]\\n";; *) exit 9;; esac')
    (row,) = rows.benchmark([case], images=[IMAGE], repeat=1)
    assert row["device_memory_mb"] is None


class _Absent(importlib.abc.MetaPathFinder):
    """Makes the import of matplotlib fail as if it were not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name="matplotlib")


def test_without_matplotlib_there_is_a_table_and_no_plot(toy_model, tmp_path, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Absent(), *sys.meta_path])
    command.main([str(toy_model()), "--repeat", "1", "--out", str(tmp_path / "result")])
    assert "no plot: it needs pip install matplotlib" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.json", "result.md", "toy.onnx"]


def test_old_spellings_of_options(toy_model, tmp_path):
    arguments = ["--providers", "cpu", "--batch", "2", "--repeat", "1", "--out", str(tmp_path / "result")]
    command.main([str(toy_model()), *arguments])
    (row,) = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["rows"]
    assert (row["provider"], row["batch"]) == ("cpu", 2)


def test_every_kind_of_file_is_measured(run_folder, tmp_path):
    """A run, and an export of each format of the table."""
    for row in FORMATS.values():
        arguments = [str(run_folder), "--out", str(tmp_path / row.default_out), "--no-verify", "--steps", "2"]
        row.command()(arguments)
    paths = [run_folder / "best.keras", *(tmp_path / row.default_out for row in FORMATS.values())]
    made = rows.benchmark([Case(path=path) for path in paths], images=[synthetic_image()], warm_up=0, repeat=1)
    for row in made:
        assert row.get("error") is None
        assert row["median_ms"] > 0
    assert len(made) == 1 + len(FORMATS)
    assert min(row["agreement"] for row in made[2:]) > 0
