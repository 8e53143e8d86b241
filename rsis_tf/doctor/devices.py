"""Checks of what TensorFlow and ONNX Runtime compute on, from programs in processes of their own."""

import math

from rsis_tf.doctor.findings import NEW_GPU, NEW_RUNTIME_GPU, Finding, note, ok, problem
from rsis_tf.doctor.machine import Machine

SUMS = (45.0, 54.0, 81.0, 90.0)
"""The answer of `probes.SELF_TEST`."""


def gpu(machine: Machine) -> Finding:
    """Checks that the driver of an NVIDIA GPU works."""
    if machine.nvidia_smi:
        return ok("; ".join(machine.nvidia_smi))
    if machine.nvidia_devices:
        return problem(
            f"{', '.join(machine.nvidia_devices)}, but nvidia-smi is missing or fails",
            "install or restart the NVIDIA driver; in a container, start it with access to the GPU (--gpus all)",
        )
    return ok("no NVIDIA GPU")


def tensorflow(machine: Machine) -> Finding:
    """Checks that TensorFlow starts and sees the GPU, if there is one."""
    probe = machine.tensorflow
    if probe is None:
        return note("not installed", 'to train: pip install "rsis_tf[train]"')
    if probe.answer is None:
        return problem(
            f"import tensorflow fails: {probe.error}",
            'run python -c "import tensorflow" to see everything; a new environment or another driver usually helps',
        )
    found = f"TensorFlow {probe.answer['version']} sees {', '.join(probe.answer['devices'])}"
    if probe.answer["gpus"] or not machine.has_nvidia:
        return ok(found)
    if not probe.answer["cuda"]:
        where = " (on Windows: in WSL2)" if machine.system == "Windows" else ""
        return problem(f"{found}: it is built without CUDA", NEW_GPU + where)
    hidden = machine.environment.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        return note(f"{found}: CUDA_VISIBLE_DEVICES={hidden!r} hides the GPU", "unset CUDA_VISIBLE_DEVICES to use it")
    if "nvidia-cudnn-cu12" not in machine.packages:
        return problem(f"{found}: the libraries of CUDA {probe.answer['cuda']} are missing", NEW_GPU)
    return problem(
        f"{found}, although CUDA's libraries are installed",
        'run TF_CPP_MIN_LOG_LEVEL=0 python -c "import tensorflow as tf; print(tf.config.list_physical_devices())"',
    )


def onnxruntime(machine: Machine) -> Finding:
    """Checks that ONNX Runtime starts and has the provider of its package."""
    probe = machine.onnxruntime
    if probe is None:
        return note("not installed, so ONNX files cannot be run", 'pip install "rsis_tf[cpu]"')
    if probe.answer is None:
        return problem(
            f"import onnxruntime fails: {probe.error}",
            "install one ONNX Runtime in a new environment (docs/installation.md)",
        )
    providers = probe.answer["providers"]
    found = f"ONNX Runtime {probe.answer['version']} has {', '.join(providers)}"
    if "CUDAExecutionProvider" in providers:
        return ok(found)
    if "onnxruntime-gpu" in machine.packages:
        return problem(
            f"{found}: the CUDA provider of onnxruntime-gpu is missing or was overwritten",
            NEW_RUNTIME_GPU,
        )
    if machine.has_nvidia:
        return note(f"{found}: the GPU is not used", NEW_RUNTIME_GPU)
    return ok(found)


def self_test(machine: Machine) -> Finding:
    """Checks that ONNX Runtime computes: a small convolution with a known answer, on the CPU."""
    probe = machine.self_test
    if probe is None:
        return note("skipped: no ONNX Runtime", 'pip install "rsis_tf[cpu]"')
    reinstall = "reinstall onnxruntime; if it happens again, report it with the output of rsis doctor --json"
    if probe.answer is None:
        return problem(f"a small ONNX graph fails: {probe.error}", reinstall)
    sums = probe.answer["sums"]
    if len(sums) != len(SUMS) or not all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(sums, SUMS, strict=True)):
        return problem(f"a small ONNX graph returns {sums} instead of {list(SUMS)}", reinstall)
    return ok(f"a small ONNX graph returns the expected numbers ({probe.answer['seconds']:.1f} s)")


def packaged_model(machine: Machine) -> Finding:
    """Checks that a model of the package finds objects in a generated scene."""
    probe = machine.zoo
    if probe is None:
        return note("skipped: no ONNX Runtime", 'pip install "rsis_tf[cpu]"')
    advice = "reinstall rsis_tf; if it happens again, report it with the output of rsis doctor --json"
    if probe.answer is None:
        return problem(f"a model of the package fails: {probe.error}", advice)
    name = probe.answer["model"]
    if not name:
        return ok("skipped: this installation contains no model")
    if not probe.answer["objects"]:
        return problem(f"the model {name} finds nothing in a scene of shapes", advice)
    return ok(f"the model {name} finds objects in a generated scene ({probe.answer['seconds']:.1f} s)")
