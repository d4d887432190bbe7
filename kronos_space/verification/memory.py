"""Memory use of a process. The reference's environment imports this too, so no dependencies."""

from pathlib import Path


def memory_mib(field: str, process: int | str = "self") -> float:
    """Return VmRSS (current) or VmHWM (peak) of a process in MiB; 0 where /proc lacks it."""
    status = Path(f"/proc/{process}/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return 0.0
