"""The checks of `rsis doctor`, in the order in which they are shown."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import rsis_tf
from rsis_tf.doctor import devices, hardware, packages
from rsis_tf.doctor.findings import Finding
from rsis_tf.doctor.machine import Machine
from rsis_tf.errors import printable

CHECKS: Mapping[str, Callable[[Machine], Finding]] = {
    "Python": hardware.python,
    "processor": hardware.processor,
    "memory": hardware.memory,
    "packages": packages.versions,
    "requirements": packages.requirements,
    "ONNX Runtime packages": packages.onnxruntimes,
    "CUDA packages": packages.cuda_packages,
    "cuDNN": packages.cudnn,
    "Keras": packages.keras,
    "optional packages": packages.optional,
    "GPU": devices.gpu,
    "TensorFlow": devices.tensorflow,
    "ONNX Runtime": devices.onnxruntime,
    "self-test": devices.self_test,
    "packaged model": devices.packaged_model,
    "current folder": hardware.current_folder,
    "temporary folder": hardware.temporary_folder,
    "annotation cache": hardware.annotation_cache,
    "Keras cache": hardware.keras_cache,
}
"""Name → the check. To add one, write a function of a `Machine` and add a row."""


def examine(machine: Machine) -> dict[str, Finding]:
    """Returns the finding of every check by its name."""
    return {name: check(machine) for name, check in CHECKS.items()}


def text(findings: Mapping[str, Finding]) -> str:
    """Returns the findings as lines for the screen."""
    width = max(map(len, findings))
    lines = []
    for name, finding in findings.items():
        lines.append(f"{finding.status:<8} {name:<{width}}  {printable(finding.found)}")
        if finding.advice:
            lines.append(f"{'':<8} {'':<{width}}  → {printable(finding.advice)}")
    problems, notes = (count(findings, status) for status in ("problem", "note"))
    summary = f"{problems or 'no'} problem{'' if problems == 1 else 's'}"
    return "\n".join([*lines, "", f"{summary}, {notes} note{'' if notes == 1 else 's'}"])


def as_json(findings: Mapping[str, Finding]) -> dict[str, Any]:
    """Returns the findings as plain values."""
    return {
        "rsis_tf": rsis_tf.__version__,
        "problems": count(findings, "problem"),
        "checks": [{"check": name, **dataclasses.asdict(finding)} for name, finding in findings.items()],
    }


def count(findings: Mapping[str, Finding], status: str) -> int:
    """Returns the number of findings with a status."""
    return sum(finding.status == status for finding in findings.values())
