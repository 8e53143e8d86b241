"""Machines for the checks of `rsis doctor`: a healthy one, and the same with other facts."""

import dataclasses

from rsis_tf.doctor.machine import Machine, Place
from rsis_tf.doctor.probes import Probe

FOLDER = Place(path="~/folder", free=10**11, size=5 * 10**6)
HEALTHY = Machine(
    python=(3, 12, 3),
    executable="~/.venv/bin/python",
    system="Linux",
    architecture="x86_64",
    platform="Linux-6.1",
    cores=(8, 8),
    cpu_flags=frozenset({"avx", "avx2", "avx512f"}),
    memory=(16 * 10**9, 8 * 10**9),
    package="~/rsis_tf",
    packages={
        **{"rsis-tf": "0.1.0", "numpy": "2.1.0", "pillow": "11.0.0", "onnxruntime": "1.22.0", "tensorflow": "2.21.0"},
        **{"keras": "3.15.1", "scipy": "1.15", "pycocotools": "2.0.11", "matplotlib": "3.10", "tf2onnx": "1.17"},
        **{"onnx": "1.19.0", "msgspec": "0.20", "pyyaml": "6.0.2", "protobuf": "6.33.0"},
    },
    requirements={
        "rsis-tf": ("numpy>=1.26", 'tensorflow<2.22,>=2.21; extra == "train-common"'),
        "tensorflow": ("protobuf<8.0.0,>=6.31.1", 'nvidia-cudnn-cu12<10.0,>=9.3; extra == "and-cuda"', "keras>=3.12"),
    },
    environment={},
    keras_file_backend=None,
    nvidia_devices=(),
    nvidia_smi=None,
    cudnn_library=None,
    tensorflow=Probe({"version": "2.21.0", "devices": ["CPU:0"], "gpus": 0, "cuda": "12.5.1"}),
    onnxruntime=Probe({"version": "1.22.0", "providers": ["CPUExecutionProvider"]}),
    self_test=Probe({"sums": [45.0, 54.0, 81.0, 90.0], "seconds": 0.1}),
    zoo=Probe({"model": "shapes", "objects": 3, "seconds": 0.4}),
    current=FOLDER,
    temporary=FOLDER,
    annotation_cache=FOLDER,
    keras_cache=dataclasses.replace(FOLDER, exists=False, size=None),
)

GPU_LIBRARIES = {"nvidia-cudnn-cu12": "9.10.2.21", "nvidia-cublas-cu12": "12.9.1.4"}
WITH_GPU = {
    "nvidia_devices": ("/dev/nvidia0",),
    "nvidia_smi": ("NVIDIA L4, 550.54, 23034 MiB",),
    "tensorflow": Probe({"version": "2.21.0", "devices": ["CPU:0", "GPU:0"], "gpus": 1, "cuda": "12.5.1"}),
    "onnxruntime": Probe({"version": "1.22.0", "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}),
}
"""Facts of a machine whose NVIDIA GPU works."""


def machine(*, packages=None, without=(), requirements=None, **facts):
    """Returns the healthy machine with other facts.

    Args:
        packages: name → version of further packages, or of others.
        without: names of packages that are not installed.
        requirements: name → requirements, in addition.
        **facts: fields of `Machine`.
    """
    installed = {**HEALTHY.packages, **(packages or {})}
    return dataclasses.replace(
        HEALTHY,
        packages={name: version for name, version in installed.items() if name not in without},
        requirements={**HEALTHY.requirements, **(requirements or {})},
        **facts,
    )


def gpu_machine(*, packages=None, **facts):
    """Returns a machine on which `pip install "rsis_tf[gpu]"` was run and everything works, with other facts."""
    installed = {"onnxruntime-gpu": "1.26.0", **GPU_LIBRARIES, **(packages or {})}
    without = {"onnxruntime", *facts.pop("without", ())}
    return machine(packages=installed, without=without, **{**WITH_GPU, **facts})
