"""The files of a PEFT adapter directory that a version is made of, with their digests."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from client.errors import invalid
from client.registry import VersionFile

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"

# Weights as pickle: sent only when there is nothing better, so that the store says why it refuses them.
_PICKLES = ("adapter_model.bin", "adapter_model.pt")


@dataclass(frozen=True, slots=True)
class AdapterDirectory:
    """A directory that PEFT's `save_pretrained` wrote, and what of it is uploaded.

    Training leaves more behind (optimizer state, tokenizer, a model card): that stays where it is.
    """

    path: Path
    files: tuple[VersionFile, ...]


def read_adapter_directory(path: Path) -> AdapterDirectory:
    """`path` with the size and sha256 of each file to upload. Reads every byte. Raises MultiloraError."""
    if not path.is_dir():
        raise invalid(
            "directory", f"{path} is not a directory: give the one that PEFT's save_pretrained wrote"
        )
    if not (path / CONFIG).is_file():
        raise invalid(
            "directory", f"{path} has no {CONFIG}: give the directory that PEFT's save_pretrained wrote"
        )
    weights = next((name for name in (WEIGHTS, *_PICKLES) if (path / name).is_file()), None)
    if weights is None:
        raise invalid("directory", f"{path} has no {WEIGHTS}: save the adapter with safe_serialization=True")
    return AdapterDirectory(path, tuple(_version_file(path, name) for name in (CONFIG, weights)))


def _version_file(directory: Path, name: str) -> VersionFile:
    with (directory / name).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size_bytes = file.tell()
    if size_bytes == 0:
        raise invalid("directory", f"{directory / name} is empty")
    return VersionFile(path=name, size_bytes=size_bytes, sha256=digest)
