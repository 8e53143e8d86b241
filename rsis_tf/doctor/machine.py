"""Facts about the machine, the Python environment and the folders that the project uses."""

import contextlib
import ctypes.util
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping

from rsis_tf.data.preflight import cache_folder
from rsis_tf.doctor import probes
from rsis_tf.doctor.versions import normal
from rsis_tf.errors import reason_of

VARIABLES = ("CUDA_VISIBLE_DEVICES", "KERAS_BACKEND", "KERAS_HOME", "TF_USE_LEGACY_KERAS", "LD_LIBRARY_PATH")
"""Environment variables that matter; no other is read."""

_NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """A folder.

    Attributes:
        path: as it is shown.
        exists: whether it is there; the others describe the folder in which it would be made, if it is not.
        error: why nothing can be written, "" if something can.
        free: free bytes of its disk; None if unknown.
        size: bytes of the files in it; None if they were not counted.
    """

    path: str
    exists: bool = True
    error: str = ""
    free: int | None = None
    size: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """What the checks read.

    Attributes:
        python: version, such as (3, 12, 3).
        executable: of Python.
        system: "Linux", "Darwin" or "Windows".
        architecture: such as "x86_64" or "arm64".
        platform: name and version of the operating system.
        cores: logical processors, and those that this process may use.
        cpu_flags: instruction sets, in Linux's names; None if unknown.
        memory: bytes in all, and those free for this process; None if unknown.
        package: folder that `rsis_tf` was imported from.
        packages: normal name → version of every installed package.
        requirements: normal name → its requirements.
        environment: values of `VARIABLES` that are set.
        keras_file_backend: backend that Keras's configuration file names, if there is one.
        nvidia_devices: GPUs that the system shows, such as "/dev/nvidia0".
        nvidia_smi: the lines of `nvidia-smi`, one for each GPU; None if it is missing or fails.
        cudnn_library: cuDNN that the system's linker finds; None if it finds none.
        tensorflow, onnxruntime, self_test, zoo: probes; None where the package is not installed.
        current, temporary, annotation_cache, keras_cache: folders.
    """

    python: tuple[int, ...]
    executable: str
    system: str
    architecture: str
    platform: str
    cores: tuple[int, int]
    cpu_flags: frozenset[str] | None
    memory: tuple[int, int] | None
    package: str
    packages: Mapping[str, str]
    requirements: Mapping[str, tuple[str, ...]]
    environment: Mapping[str, str]
    keras_file_backend: str | None
    nvidia_devices: tuple[str, ...]
    nvidia_smi: tuple[str, ...] | None
    cudnn_library: str | None
    tensorflow: probes.Probe | None
    onnxruntime: probes.Probe | None
    self_test: probes.Probe | None
    zoo: probes.Probe | None
    current: Place
    temporary: Place
    annotation_cache: Place
    keras_cache: Place

    def first(self, *names: str) -> str | None:
        """Returns the first of some packages that is installed."""
        return next((name for name in names if name in self.packages), None)

    @property
    def has_nvidia(self) -> bool:
        """Whether the machine has an NVIDIA GPU, with or without a working driver."""
        return bool(self.nvidia_devices or self.nvidia_smi)


TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-intel", "tensorflow-macos", "tf-nightly", "tf-nightly-cpu")
"""Packages that own the folder `tensorflow`."""


def runtimes(packages: Iterable[str]) -> list[str]:
    """Returns the packages that own the folder `onnxruntime`."""
    others = ("onnxruntime-extensions", "onnxruntime-genai")
    names = [name for name in packages if re.match(r"^(ort-nightly|onnxruntime)(-|$)", name)]
    return [name for name in names if not name.startswith(others)]


def inspect() -> Machine:
    """Returns the facts about this machine. Takes as long as TensorFlow and ONNX Runtime take to start."""
    packages, requirements = _packages()
    has_runtime = bool(runtimes(packages))
    keras_home = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    return Machine(
        python=tuple(sys.version_info[:3]),
        executable=short(sys.executable),
        system=platform.system(),
        architecture=platform.machine(),
        platform=platform.platform(),
        cores=(os.cpu_count() or 1, _usable_cores()),
        cpu_flags=_cpu_flags(),
        memory=_memory(),
        package=short(str(probes.PACKAGE)),
        packages=packages,
        requirements=requirements,
        environment={name: os.environ[name] for name in VARIABLES if name in os.environ},
        keras_file_backend=_keras_file_backend(pathlib.Path(keras_home) / "keras.json"),
        nvidia_devices=tuple(sorted(str(path) for path in pathlib.Path("/dev").glob("nvidia[0-9]*"))),
        nvidia_smi=_nvidia_smi(),
        cudnn_library=ctypes.util.find_library("cudnn"),
        tensorflow=probes.run(probes.TENSORFLOW) if any(name in packages for name in TENSORFLOWS) else None,
        onnxruntime=probes.run(probes.ONNXRUNTIME) if has_runtime else None,
        self_test=probes.run(probes.SELF_TEST) if has_runtime else None,
        zoo=probes.run(probes.ZOO) if has_runtime else None,
        current=place(pathlib.Path.cwd()),
        temporary=place(pathlib.Path(tempfile.gettempdir())),
        annotation_cache=place(cache_folder(), count=True),
        keras_cache=place(pathlib.Path(keras_home), count=True),
    )


def place(path: pathlib.Path, *, count: bool = False) -> Place:
    """Returns the facts about a folder, or about the folder in which it would be made.

    Args:
        path: of the folder.
        count: whether to add up the sizes of its files.
    """
    error, exists, free = "", False, None
    try:
        exists = path.is_dir()
        above = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
        free = shutil.disk_usage(above).free
        with tempfile.TemporaryFile(dir=above) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as caught:
        error = reason_of(caught)
    return Place(
        path=short(str(path)), exists=exists, error=error, free=free, size=_size(path) if count and exists else None
    )


def short(path: str) -> str:
    """Returns a path with "~" for the home folder: the text is meant to be sent to others."""
    home = os.path.expanduser("~")
    return f"~{path[len(home) :]}" if len(home) > 1 and path.startswith(home + os.sep) else path


def _size(folder: pathlib.Path) -> int:
    total = 0
    for name, _, files in os.walk(folder):
        for file in files:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(name, file)).st_size
    return total


def _packages() -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    versions: dict[str, str] = {}
    requirements: dict[str, tuple[str, ...]] = {}
    for entry in importlib.metadata.distributions():
        # A folder of a broken installation has no name.
        name = normal(entry.metadata["Name"] or "")
        if name and name not in versions:  # the first one on the path is the one that is imported
            versions[name] = entry.version
            requirements[name] = tuple(entry.requires or ())
    return dict(sorted(versions.items())), requirements


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_flags() -> frozenset[str] | None:
    text = _read("/proc/cpuinfo")
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    return frozenset(match[1].split()) if match else None


def _memory() -> tuple[int, int] | None:
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s*(\d+) kB", _read("/proc/meminfo"), re.MULTILINE))
    if len(found) < 2:
        return None
    total, free = int(found["MemTotal"]) * 1024, int(found["MemAvailable"]) * 1024
    limit, used = _read("/sys/fs/cgroup/memory.max").strip(), _read("/sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and used.isdigit():  # a container with a limit
        total, free = min(total, int(limit)), min(free, max(0, int(limit) - int(used)))
    return total, free


def _keras_file_backend(path: pathlib.Path) -> str | None:
    try:
        backend = json.loads(path.read_text(encoding="utf-8")).get("backend")
    except (OSError, ValueError, AttributeError):
        return None
    return backend if isinstance(backend, str) else None


def _nvidia_smi() -> tuple[str, ...] | None:
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(_NVIDIA_SMI, capture_output=True, text=True, timeout=20, check=True)
        return tuple(line.strip() for line in done.stdout.splitlines() if line.strip()) or None
    return None


def _read(path: str) -> str:
    try:
        return pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
