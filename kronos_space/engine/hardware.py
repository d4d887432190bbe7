"""What this process may use of the machine it runs on."""

import ctypes
import math
import os
from pathlib import Path

import torch

CGROUP = Path("/sys/fs/cgroup")
_MALLOPT = {-1: 2**29, -3: 2**25}  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD (its most), in bytes


def usable_cpus(cgroup: Path = CGROUP) -> int:
    """CPUs that this process may use: by affinity and by the container's quota, at least 1.

    The host's count says nothing: a container that may use 2 CPUs of 64 and starts 64 threads
    spends its time waiting.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:  # macOS and Windows have no affinity
        allowed = os.cpu_count() or 1
    quota = _quota(cgroup)
    return allowed if quota is None else max(1, min(allowed, math.ceil(quota)))


def has_fast_bfloat16() -> bool:
    """True where the CPU multiplies bfloat16 itself (AMX or AVX-512 BF16); elsewhere it is slow."""
    features = torch.cpu.get_capabilities()
    return bool(features.get("amx_bf16") or features.get("avx512_bf16"))


def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed, up to 512 MiB, for the whole process; elsewhere nothing.

    By default it gives every large buffer back to the kernel, which clears it when it is asked
    for again: a sixth of the engine's time in bfloat16.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        for parameter, size in _MALLOPT.items():
            mallopt(parameter, size)


def _quota(cgroup: Path) -> float | None:
    """CPUs that the container's scheduler grants, None for no limit. Versions 2 and 1."""
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
