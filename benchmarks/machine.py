"""Which machine, versions and commit figures were taken with. Must not know what was measured."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "triton", "safetensors", "numpy", "grpcio")


def describe(device: torch.device, known_commit: str, program: str = "benchmarks.gpu") -> dict[str, Any]:
    """Everything that somebody needs to take the same figures again; `known_commit` "" asks git."""
    described: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", program, *sys.argv[1:]]),
        "commit": known_commit or commit(),
        "device": "cpu",
        "cpu_cores": os.cpu_count(),
        "platform": platform.platform(),
        "versions": {"python": platform.python_version(), **_versions()},
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        described["device"] = properties.name
        described["device_memory_bytes"] = properties.total_memory
        described["multiprocessors"] = properties.multi_processor_count
        described["versions"]["cuda"] = torch.version.cuda
    return described


def commit() -> str:
    """The checkout's commit, with "+" if files of it are changed; "unknown" outside a checkout."""
    root = Path(__file__).parents[1]
    try:
        head = _git(root, "rev-parse", "--short=12", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found
