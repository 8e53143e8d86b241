"""Extras and documented commands: each environment gets one ONNX Runtime, and an error without one names the extras."""

import pathlib
import subprocess
import sys

import pytest

from rsis_tf import errors

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import installations  # noqa: E402

ON_CPU, ON_GPU = {"cpu", "train"}, {"gpu", "runtime-gpu"}
COMMANDS = installations.commands()


def test_commands_are_found_where_users_read_them(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(
        'a && pip install -q -e ".[train,test]" && b\nor `pip install "rsis_tf[x]" "ray[data]"` in one line\n',
        encoding="utf-8",
    )
    (tmp_path / "train.py").write_text(
        """raise InputError(f'videos need PyAV: pip install "rsis_tf[video]". Received: {path}')\n"""
        'print("(pip install cityscapesscripts). more")\n',
        encoding="utf-8",
    )
    assert [command.requirements for command in installations.commands(tmp_path)] == [
        (".[train,test]",),
        ("cityscapesscripts",),
        ("rsis_tf[video]",),
        ("rsis_tf[x]", "ray[data]"),
    ]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.place} {' '.join(command.requirements)}")
def test_documented_commands_select_one_runtime_at_most(command):
    packages = installations.selected(command.extras)
    others = {installations.read_requirement(text)[0] for text in command.requirements}
    assert installations.conflict({*packages, *others}) is None


@pytest.mark.parametrize("extra", sorted(installations.declared()[1]))
def test_each_extra_selects_its_runtime_and_no_other(extra):
    wanted = {"onnxruntime"} if extra in ON_CPU else {"onnxruntime-gpu"} if extra in ON_GPU else set()
    assert {"onnxruntime", "onnxruntime-gpu"} & set(installations.selected([extra])) == wanted


def test_messages_name_extras_that_exist():
    assert set(errors._EXTRAS) <= set(installations.declared()[1])


def test_gpu_installs_all_that_train_does():
    everything, on_cpu = installations.selected(["gpu"]), installations.selected(["train"])
    assert set(on_cpu) - {"onnxruntime"} == set(everything) - {"onnxruntime-gpu"}
    assert everything["tensorflow"].startswith("tensorflow[and-cuda]")
    # Both are built for CUDA 12; the extras install NVIDIA's libraries, also without TensorFlow.
    assert everything["onnxruntime-gpu"] == "onnxruntime-gpu[cuda,cudnn]>=1.24.4,<1.27"


def test_extras_for_applications_install_no_training_packages():
    for extra in ("cpu", "runtime-gpu"):
        assert not {"tensorflow", "keras", "scipy"} & set(installations.selected([extra]))


@pytest.mark.parametrize("wanted", [{"train"}, {"train", "test"}, {"gpu"}, {"cpu"}, {"runtime-gpu"}])
def test_a_command_for_each_kind_of_machine_is_documented(wanted):
    assert wanted in [set(command.extras) for command in COMMANDS]


def test_packages_that_cannot_share_an_environment():
    assert installations.conflict(["onnxruntime", "numpy"]) is None
    assert installations.conflict(["onnxruntime-gpu", "nvidia-cudnn-cu12", "nvidia-cublas-cu12"]) is None
    assert installations.conflict(["onnxruntime", "onnxruntime-gpu"]) == "both onnxruntime and onnxruntime-gpu"
    assert installations.conflict(["nvidia-cudnn-cu12", "nvidia-cublas-cu13"]) == "libraries of CUDA 12 and 13"


WITHOUT = """
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("onnxruntime", "tensorflow", "keras"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def test_a_base_install_names_the_two_commands(tmp_path):
    """As after `pip install .`: no ONNX Runtime, no TensorFlow."""
    (tmp_path / "model.onnx").write_bytes(b"")
    program = WITHOUT + "from rsis_tf.cli.predict import main\nmain(['model.onnx', 'image.png', '--out', 'found'])"
    (tmp_path / "image.png").write_bytes(b"")
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.stderr == (
        'error: running ONNX files needs one ONNX Runtime: pip install "rsis_tf[cpu]", or, for NVIDIA GPUs, '
        "pip install \"rsis_tf[runtime-gpu]\". Received: No module named 'onnxruntime'\n"
    )
    assert done.returncode == 2
