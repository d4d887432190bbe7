"""How much memory a process takes. The reference's environment has it too: Python alone."""

from pathlib import Path


def memory_mib(field: str, process: int | str = "self") -> float:
    """VmRSS (now) or VmHWM (the most so far) of a process; 0 where Linux does not tell."""
    status = Path(f"/proc/{process}/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return 0.0
