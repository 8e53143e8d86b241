"""`rsis doctor`: every problem is found on a machine that has it, and on no other."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import pytest
from machines import FOLDER, HEALTHY, gpu_machine, machine

from rsis_tf.cli import doctor, main
from rsis_tf.doctor.machine import place, runtimes, short
from rsis_tf.doctor.probes import Probe
from rsis_tf.doctor.table import CHECKS, as_json, examine, text

ROOT = pathlib.Path(__file__).parents[2]


def statuses(subject, status):
    return {name: finding for name, finding in examine(subject).items() if finding.status == status}


def test_a_healthy_machine_has_no_problem():
    for subject in (HEALTHY, gpu_machine()):
        assert statuses(subject, "problem") == {}
        assert set(statuses(subject, "note")) == {"optional packages"}
    assert "NVIDIA L4" in examine(gpu_machine())["GPU"].found


NO_CUDA = Probe({"version": "2.21.0", "devices": ["CPU:0"], "gpus": 0, "cuda": ""})
NO_GPU_SEEN = HEALTHY.tensorflow
CPU_ONLY = HEALTHY.onnxruntime
FULL = dataclasses.replace(FOLDER, free=10**6)
CLOSED = dataclasses.replace(FOLDER, error="Permission denied")

PROBLEMS = {
    "old Python": (machine(python=(3, 10, 1)), "Python", "3.10.1", "3.11 or newer"),
    "no AVX": (machine(cpu_flags=frozenset({"sse4_2"})), "processor", "x86_64", "need AVX"),
    "protobuf too old": (
        machine(packages={"protobuf": "5.29.5"}),
        *("requirements", "tensorflow needs protobuf<8.0.0,>=6.31.1, and 5.29.5 is installed", "new environment"),
    ),
    "a missing requirement": (
        machine(without={"protobuf"}),
        *("requirements", "tensorflow needs protobuf<8.0.0,>=6.31.1, which is missing", "new environment"),
    ),
    "another TensorFlow than the project's": (
        machine(packages={"tensorflow": "2.18.0"}),
        *("requirements", "rsis-tf needs tensorflow<2.22,>=2.21, and 2.18.0 is installed", "new environment"),
    ),
    "two ONNX Runtimes": (
        machine(packages={"onnxruntime-gpu": "1.26.0"}),
        *("ONNX Runtime packages", "onnxruntime-gpu 1.26.0", "new environment"),
    ),
    "ONNX Runtime for CUDA 13": (
        gpu_machine(packages={"onnxruntime-gpu": "1.27.0"}),
        *("ONNX Runtime packages", "CUDA 13", "<1.27"),
    ),
    "CUDA 12 and 13": (
        gpu_machine(packages={"nvidia-cudnn-cu13": "9.13.0"}),
        *("CUDA packages", "CUDA 12: nvidia-cublas-cu12, nvidia-cudnn-cu12; CUDA 13: nvidia-cudnn-cu13", "environment"),
    ),
    "CUDA 13 without a suffix": (
        gpu_machine(packages={"nvidia-cublas": "13.0.2.14"}),
        *("CUDA packages", "CUDA 13: nvidia-cublas", "environment"),
    ),
    "no cuDNN": (gpu_machine(without={"nvidia-cudnn-cu12"}), "cuDNN", "no cuDNN", 'repository: pip install ".[gpu]"'),
    "cuDNN 8": (gpu_machine(packages={"nvidia-cudnn-cu12": "8.9.7.29"}), "cuDNN", "8.9.7.29", ">=9.3,<10"),
    "cuDNN 8 of the system": (
        gpu_machine(without={"nvidia-cudnn-cu12"}, cudnn_library="libcudnn.so.8"),
        *("cuDNN", "libcudnn.so.8", ">=9.3,<10"),
    ),
    "a backend that is not installed": (
        machine(environment={"KERAS_BACKEND": "jax"}),
        *("Keras", "jax (KERAS_BACKEND), which is not installed", "KERAS_BACKEND=tensorflow"),
    ),
    "a backend of keras.json that is not installed": (
        machine(keras_file_backend="torch"),
        *("Keras", "torch (keras.json), which is not installed", "KERAS_BACKEND=tensorflow"),
    ),
    "a backend that cannot train": (
        machine(environment={"KERAS_BACKEND": "openvino"}),
        *("Keras", "openvino", "tensorflow, jax, torch"),
    ),
    "Keras 2": (machine(packages={"keras": "2.15.0"}), "Keras", "keras 2.15.0", "keras>=3.15"),
    "Keras 2 in tf.keras": (
        machine(environment={"TF_USE_LEGACY_KERAS": "1"}),
        *("Keras", "Keras 2", "unset TF_USE_LEGACY_KERAS"),
    ),
    "two TensorFlows": (
        machine(packages={"tensorflow-cpu": "2.21.0"}),
        *("Keras", "tensorflow and tensorflow-cpu", "new environment"),
    ),
    "a driver that fails": (gpu_machine(nvidia_smi=None), "GPU", "/dev/nvidia0", "driver"),
    "TensorFlow without CUDA": (
        gpu_machine(tensorflow=NO_CUDA),
        *("TensorFlow", "built without CUDA", 'repository: pip install ".[gpu]"'),
    ),
    "TensorFlow without CUDA's libraries": (
        gpu_machine(tensorflow=NO_GPU_SEEN, without={"nvidia-cudnn-cu12"}, cudnn_library="libcudnn.so.9"),
        *("TensorFlow", "libraries of CUDA 12.5.1 are missing", 'repository: pip install ".[gpu]"'),
    ),
    "TensorFlow that does not see the GPU": (
        gpu_machine(tensorflow=NO_GPU_SEEN),
        *("TensorFlow", "although CUDA's libraries are installed", "TF_CPP_MIN_LOG_LEVEL=0"),
    ),
    "TensorFlow that crashes": (
        machine(tensorflow=Probe(None, "the process crashed (SIGILL)")),
        *("TensorFlow", "SIGILL", "import tensorflow"),
    ),
    "ONNX Runtime that hangs": (
        machine(onnxruntime=Probe(None, "no answer within 120 seconds")),
        *("ONNX Runtime", "no answer within 120 seconds", "new environment"),
    ),
    "an overwritten CUDA provider": (
        gpu_machine(onnxruntime=CPU_ONLY),
        *("ONNX Runtime", "CUDA provider", 'repository: pip install ".[runtime-gpu]"'),
    ),
    "wrong numbers": (
        machine(self_test=Probe({"sums": [45.0, 54.0, 81.0, 91.0], "seconds": 0.1})),
        *("self-test", "91.0", "reinstall"),
    ),
    "a graph that does not load": (machine(self_test=Probe(None, "bad opset")), "self-test", "bad opset", "reinstall"),
    "a model that finds nothing": (
        machine(zoo=Probe({"model": "shapes", "objects": 0, "seconds": 0.1})),
        *("packaged model", "shapes finds nothing", "reinstall"),
    ),
    "a model that fails": (machine(zoo=Probe(None, "broken")), "packaged model", "broken", "reinstall"),
    "a closed folder": (machine(current=CLOSED), "current folder", "Permission denied", "--out"),
    "a full disk": (machine(current=FULL), "current folder", "1.0 MB free", "nearly full"),
    "no temporary files": (machine(temporary=CLOSED), "temporary folder", "Permission denied", "TMPDIR"),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_a_problem_is_found_and_says_what_to_do(case):
    subject, check, found, advice = PROBLEMS[case]
    finding = CHECKS[check](subject)
    assert finding.status == "problem"
    assert found in finding.found
    assert advice in finding.advice


NOTES = {
    "a base install": (
        machine(without={"tensorflow", "keras", "scipy"}, tensorflow=None),
        *("packages", "rsis_tf 0.1.0", 'need tensorflow, keras, scipy: pip install "rsis_tf[train]"'),
    ),
    "no Keras": (machine(without={"keras"}), "Keras", "no Keras", "rsis_tf[train]"),
    "no ONNX Runtime": (machine(without={"onnxruntime"}), "ONNX Runtime packages", "no ONNX Runtime", "rsis_tf[cpu]"),
    "no AVX2": (machine(cpu_flags=frozenset({"avx"})), "processor", "avx", "slow"),
    "little memory": (machine(memory=(4 * 10**9, 10**9)), "memory", "1.0 GB free of 4.0 GB", "--batch-size"),
    "tf-keras": (machine(packages={"tf-keras": "2.20.0"}), "Keras", "tf-keras 2.20.0", "only keras"),
    "a hidden GPU": (
        gpu_machine(tensorflow=NO_GPU_SEEN, environment={"CUDA_VISIBLE_DEVICES": "-1"}),
        *("TensorFlow", "hides the GPU", "unset CUDA_VISIBLE_DEVICES"),
    ),
    "ONNX Runtime of the CPU beside a GPU": (
        machine(nvidia_devices=("/dev/nvidia0",), nvidia_smi=("NVIDIA L4",)),
        *("ONNX Runtime", "the GPU is not used", 'repository: pip install ".[runtime-gpu]"'),
    ),
    "a little disk": (machine(current=dataclasses.replace(FOLDER, free=10**9)), "current folder", "1.0 GB free", ""),
    "a closed cache": (machine(annotation_cache=CLOSED), "annotation cache", "Permission denied", "XDG_CACHE_HOME"),
    "a closed cache of Keras": (machine(keras_cache=CLOSED), "Keras cache", "Permission denied", "KERAS_HOME"),
    "optional packages": (machine(packages={"av": "18.0"}), "optional packages", "installed: av", "rsis_tf[heif]"),
}


@pytest.mark.parametrize("case", NOTES)
def test_what_only_limits_is_a_note(case):
    subject, check, found, advice = NOTES[case]
    finding = CHECKS[check](subject)
    assert finding.status == "note"
    assert found in finding.found
    assert advice in finding.advice


def test_facts_that_are_unknown_are_no_problem():
    subject = machine(cpu_flags=None, memory=None, current=dataclasses.replace(FOLDER, free=None))
    assert statuses(subject, "problem") == {}


def test_a_backend_other_than_tensorflow_is_accepted_if_it_is_installed():
    subject = machine(packages={"jax": "0.10.0"}, environment={"KERAS_BACKEND": "jax"}, keras_file_backend="torch")
    assert examine(subject)["Keras"].status == "ok"
    assert examine(machine(packages={"onnxruntime-extensions": "0.14"}))["ONNX Runtime packages"].status == "ok"


def test_the_screen_and_json_show_the_same_findings():
    findings = examine(machine(python=(3, 10, 1), current=dataclasses.replace(FOLDER, path="~/a\x1b[31m")))
    lines = text(findings).splitlines()
    assert lines[0].startswith("problem  Python ")
    assert lines[1].strip().startswith("→ install Python 3.11")
    assert lines[-1] == "1 problem, 1 note"
    assert "\x1b" not in "".join(lines)
    content = json.loads(json.dumps(as_json(findings)))
    assert content["problems"] == 1
    assert [entry["check"] for entry in content["checks"]] == list(CHECKS)
    assert content["checks"][0]["status"] == "problem"


def test_facts_about_folders(tmp_path, monkeypatch):
    (tmp_path / "cache/sub").mkdir(parents=True)
    (tmp_path / "cache/sub/file").write_bytes(bytes(1234))
    there = place(tmp_path / "cache", count=True)
    assert (there.exists, there.error, there.size) == (True, "", 1234)
    assert there.free > 0
    absent = place(tmp_path / "a/b", count=True)
    assert (absent.exists, absent.error, absent.size) == (False, "", None)
    assert not (tmp_path / "a").exists()
    (tmp_path / "file").touch()
    assert place(tmp_path / "file/x").error
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["sub"]
    monkeypatch.setenv("HOME", "/home/me")
    assert short("/home/me/run") == "~/run"
    assert short("/home/meadow") == "/home/meadow"


def test_wrong_usage_is_one_line_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as stop:
        doctor.main(["--jsonn"])
    assert stop.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(("subject", "code"), [(HEALTHY, 0), (machine(python=(3, 10, 1)), 1)])
def test_the_exit_code_tells_whether_there_is_a_problem(subject, code, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "inspect", lambda: subject)
    assert doctor.main([]) == code
    if code:
        with pytest.raises(SystemExit) as stop:
            main.main(["doctor", "--json"])
        assert stop.value.code == 1
    else:
        main.main(["doctor", "--json"])
    assert "problem" in capsys.readouterr().out


def test_a_gpu_chosen_by_its_number_is_not_hidden():
    one = gpu_machine(tensorflow=NO_GPU_SEEN, environment={"CUDA_VISIBLE_DEVICES": "1"})
    assert "hides" not in CHECKS["TensorFlow"](one).found


@pytest.mark.parametrize(
    ("names", "owners"),
    [
        (["numpy", "onnxruntime-extensions", "onnxruntime-genai"], []),
        (["onnxruntime", "onnxruntime-extensions"], ["onnxruntime"]),
        (["ort-nightly", "onnxruntime-gpu"], ["ort-nightly", "onnxruntime-gpu"]),
    ],
)
def test_packages_beside_onnxruntime_are_not_onnxruntime(names, owners):
    assert runtimes(names) == owners


def test_this_machine(tmp_path):
    """Without the training packages, as after `pip install "rsis_tf[cpu]"`: they are installed, but not found."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    names = '("tensorflow", "keras", "scipy", "matplotlib", "pycocotools", "onnx", "msgspec", "yaml")'
    (hidden / "sitecustomize.py").write_text(
        "import sys\nclass Blocker:\n    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {names}:\n            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n",
        encoding="utf-8",
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(hidden), str(ROOT)])}
    command = [sys.executable, "-m", "rsis_tf", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    content = json.loads(done.stdout)
    findings = {entry["check"]: entry for entry in content["checks"]}
    assert list(findings) == list(CHECKS)
    assert findings["self-test"]["status"] == "ok"
    assert findings["ONNX Runtime"]["status"] == "ok"
    assert findings["packaged model"]["status"] == "ok"
    assert findings["TensorFlow"]["status"] == "problem"  # the import fails here, in a process of its own
    assert done.returncode == (1 if content["problems"] else 0)
    assert done.stderr == ""
