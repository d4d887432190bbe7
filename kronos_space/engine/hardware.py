"""CPUs, number formats and memory that this process may use."""

import ctypes
import math
import os
from pathlib import Path

import torch

CGROUP = Path("/sys/fs/cgroup")
_MALLOPT = {-1: 2**29, -3: 2**25}  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD (its maximum), in bytes


def usable_cpus(cgroup: Path = CGROUP) -> int:
    """Return the number of CPUs that this process may use, at least 1.

    CPU affinity and the container's quota limit the number. The host's number of CPUs would be too
    large: a container that may use 2 of 64 CPUs and starts 64 threads spends most time waiting.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:  # macOS and Windows have no affinity
        allowed = os.cpu_count() or 1
    quota = _quota(cgroup)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def fast_dtype() -> str | None:
    """Return the type that the CPU multiplies fastest, or None for float32.

    bfloat16 is fast with AMX or AVX-512 BF16, int8 with VNNI.
    """
    features = torch.cpu.get_capabilities()
    if features.get("amx_bf16") or features.get("avx512_bf16"):
        return "bfloat16"
    if features.get("avx512_vnni") or features.get("avx_vnni"):
        return "int8"
    return None


def keep_freed_memory() -> None:
    """Make glibc keep up to 512 MiB of freed memory for the whole process.

    The function has no effect where the C library is not glibc. By default glibc returns every
    large buffer to the kernel, and the kernel clears the buffer before the next use. Clearing takes
    a sixth of the engine's time in bfloat16.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        for parameter, size in _MALLOPT.items():
            mallopt(parameter, size)


def _quota(cgroup: Path) -> float | None:
    """Return the CPUs granted by the scheduler (cgroup 1 or 2), or None for no limit."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)
