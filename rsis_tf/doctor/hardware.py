"""Checks of Python, processor, memory, disk and folders."""

from rsis_tf.doctor.findings import Finding, gigabytes, note, ok, problem
from rsis_tf.doctor.machine import TENSORFLOWS, Machine, Place

LOWEST_PYTHON = (3, 11)
_SHOWN_FLAGS = (
    *("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve"),
)
_X86 = ("x86_64", "AMD64", "amd64", "i686")
_LITTLE_MEMORY = 2 * 10**9
_FULL, _NEARLY_FULL = 200 * 10**6, 2 * 10**9


def python(machine: Machine) -> Finding:
    """Checks the version of Python."""
    found = f"{'.'.join(map(str, machine.python))} at {machine.executable}, {machine.platform}"
    if machine.python < LOWEST_PYTHON:
        wanted = ".".join(map(str, LOWEST_PYTHON))
        return problem(found, f"install Python {wanted} or newer and make a new environment with it")
    return ok(found)


def processor(machine: Machine) -> Finding:
    """Checks the number of cores and the instruction sets."""
    cores, usable = machine.cores
    found = f"{machine.architecture}, {usable} of {cores} cores usable"
    if machine.cpu_flags is None:
        return ok(f"{found}, instruction sets unknown")
    shown = [flag for flag in _SHOWN_FLAGS if flag in machine.cpu_flags]
    found = f"{found}, {' '.join(shown) or 'no vector instructions that matter'}"
    if machine.architecture not in _X86 or "avx2" in machine.cpu_flags:
        return ok(found)
    if "avx" not in machine.cpu_flags and machine.first(*TENSORFLOWS):
        return problem(found, "TensorFlow's packages need AVX; on a virtual machine, pass the host's CPU model through")
    return note(found, "training and prediction are slow without AVX2; a virtual machine may hide it")


def memory(machine: Machine) -> Finding:
    """Checks the free memory, within the limit of a container."""
    if machine.memory is None:
        return ok("unknown on this system")
    total, free = machine.memory
    found = f"{gigabytes(free)} free of {gigabytes(total)}"
    if free < _LITTLE_MEMORY:
        return note(found, "a training may be killed; close other programs, or lower --batch-size or --image-size")
    return ok(found)


def current_folder(machine: Machine) -> Finding:
    """Checks that the current folder, where runs are written by default, can be written."""
    return _written(machine.current, "change to a folder of your own, or pass --out")


def temporary_folder(machine: Machine) -> Finding:
    """Checks that temporary files can be written."""
    return _written(machine.temporary, "set TMPDIR to a folder that you can write")


def annotation_cache(machine: Machine) -> Finding:
    """Checks the folder in which the results of annotation checks are stored."""
    return _cached(
        machine.annotation_cache, "every training reads all annotations again; set XDG_CACHE_HOME to another folder"
    )


def keras_cache(machine: Machine) -> Finding:
    """Checks the folder to which Keras downloads weights."""
    return _cached(machine.keras_cache, "ImageNet weights cannot be downloaded; set KERAS_HOME to another folder")


def _written(place: Place, advice: str) -> Finding:
    free = "" if place.free is None else f", {gigabytes(place.free)} free"
    found = f"{place.path}{free}"
    if place.error:
        return problem(f"{place.path} cannot be written ({place.error})", advice)
    if place.free is not None and place.free < _FULL:
        return problem(found, f"the disk is nearly full: free some space, or {advice}")
    if place.free is not None and place.free < _NEARLY_FULL:
        return note(found, "a training with its state and exports may fill the disk")
    return ok(found)


def _cached(place: Place, advice: str) -> Finding:
    held = "not made yet" if not place.exists else f"{gigabytes(place.size or 0)}"
    if place.error:
        return note(f"{place.path}: {held}, cannot be written ({place.error})", advice)
    return ok(f"{place.path}: {held}")
