"""The digest that says two model directories hold the same base model.

Must not know torch: whoever registers a base model computes it.
"""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def base_model_digest(model_dir: Path) -> str:
    """sha256 in hex over the names and sha256s of config.json and every *.safetensors, sorted by name.

    Files are hashed side by side in threads. Raises OSError if one cannot be read.
    """
    paths = [model_dir / "config.json", *sorted(model_dir.glob("*.safetensors"))]
    with ThreadPoolExecutor(max_workers=min(len(paths), os.cpu_count() or 1)) as threads:
        digests = list(threads.map(_file_digest, paths))
    total = hashlib.sha256()
    for path, digest in zip(paths, digests, strict=True):
        total.update(f"{path.name} {digest}\n".encode())
    return total.hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
