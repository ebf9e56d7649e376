"""How much memory a process holds."""

from pathlib import Path


def resident_bytes(pid: int) -> int:
    """The process's resident set."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"process {pid} has no memory: is it gone?")
