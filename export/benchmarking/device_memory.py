"""The memory that a process holds on NVIDIA GPUs, as the driver counts it."""

import os
import shutil
import subprocess

QUERY = ("--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits")
"""Arguments with which nvidia-smi prints one line for each process and GPU, `PID, MiB`
(`nvidia-smi --help-query-compute-apps`)."""

QUERY_ALL = ("--query-gpu=memory.used", "--format=csv,noheader,nounits")
"""Arguments with which it prints one line for each GPU, `MiB`."""


def used_memory_mb() -> float | None:
    """Returns the MiB that all processes hold on all GPUs, or None if it cannot be measured.

    Before and after the end of a process, the difference is what it held, if no other process allocates meanwhile.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    done = subprocess.run([program, *QUERY_ALL], capture_output=True, text=True, check=False)
    values = [line.strip() for line in done.stdout.splitlines()]
    if done.returncode or not values or not all(value.isdecimal() for value in values):
        return None
    return float(sum(map(int, values)))


def device_memory_mb(process: int | None = None) -> float | None:
    """Returns the MiB that a process holds on all GPUs: weights, activations, workspaces and the CUDA context.

    Frameworks do not return the memory they have allocated, so after a measurement this is the peak.

    Args:
        process: its id; default: this process.

    Returns:
        None if it cannot be measured: without nvidia-smi, if the driver gives no number (`[N/A]`), or in a container
        in which processes have other ids than the driver sees.
    """
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    done = subprocess.run([program, *QUERY], capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    wanted = str(os.getpid() if process is None else process)
    lines = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    held = [line[1] for line in lines if len(line) == 2 and line[0] == wanted]
    if not held or not all(value.isdecimal() for value in held):
        return None
    return float(sum(map(int, held)))
