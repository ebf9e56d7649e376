"""Which files an upload may have: by names and sizes at StartUpload, by their first bytes at the end."""

import re
from collections.abc import Sequence, Set

from services.adapter_store.domain.fields import check_sha256, quoted
from services.adapter_store.domain.version import VersionFile
from services.adapter_store.manifest.refusals import malformed, unsupported
from services.common.errors import ServiceError, invalid_field

CONFIG_PATH = "adapter_config.json"
WEIGHTS_PATH = "adapter_model.safetensors"
MAX_FILES = 32
MAX_PATH_CHARS = 200
MAX_CONFIG_BYTES = 1 << 20

_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_HARMLESS = (".json", ".txt", ".md", ".model")
_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_SAVE_SAFE = "save the adapter with save_pretrained(..., safe_serialization=True) and leave this file out"


def check_files(files: Sequence[VersionFile], max_upload_bytes: int) -> None:
    """Raises INVALID_FIELD, INVALID_ADAPTER or UNSUPPORTED_ADAPTER naming the first file at fault."""
    if not 1 <= len(files) <= MAX_FILES:
        raise invalid_field("files", f"has {len(files)} entries: give from 1 to {MAX_FILES} files")
    for index, file in enumerate(files):
        _check_path(file.path, f"files[{index}].path")
        check_sha256(file.sha256, f"files[{index}].sha256")
        if file.size_bytes < 0:
            raise invalid_field(f"files[{index}].size_bytes", f"is {file.size_bytes}: must not be negative")
    total_bytes = sum(file.size_bytes for file in files)
    if total_bytes > max_upload_bytes:
        raise invalid_field(
            "files", f"has {total_bytes} bytes: at most {max_upload_bytes} are allowed (--max-upload-bytes)"
        )
    by_path = {file.path: file for file in files}
    if len({path.lower() for path in by_path}) != len(files):
        raise invalid_field("files", "names a path twice: give each file once")
    _check_no_file_is_a_directory({path.lower() for path in by_path})
    for path in (CONFIG_PATH, WEIGHTS_PATH):
        if path not in by_path:
            raise malformed(path, "is missing: upload the directory that PEFT's save_pretrained wrote")
    if by_path[CONFIG_PATH].size_bytes > MAX_CONFIG_BYTES:
        raise malformed(CONFIG_PATH, f"is over {MAX_CONFIG_BYTES} bytes: this is no PEFT config")


def check_first_bytes(path: str, head: bytes) -> None:
    """Refuses pickles and zip archives, whatever they are called. `head`: the first 16 bytes or more."""
    is_safetensors = path.endswith(".safetensors") and head[8:9] == b"{"
    is_pickle = len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5 and not is_safetensors
    if is_pickle or head.startswith(b"PK\x03\x04"):
        kind = "a pickle" if is_pickle else "a zip archive (torch.save writes them)"
        raise malformed(path, f"is {kind}, which can run code when it is loaded: {_SAVE_SAFE}")


def _check_path(path: str, field: str) -> None:
    if len(path) > MAX_PATH_CHARS:
        raise invalid_field(field, f"has {len(path)} characters: at most {MAX_PATH_CHARS} are allowed")
    if not all(_SEGMENT.fullmatch(segment) for segment in path.split("/")):
        raise invalid_field(
            field,
            f"{quoted(path)} is no plain relative path: use letters, digits, . _ - and /, and no part "
            "that starts with a dot",
        )
    refusal = _refuse_kind(path)
    if refusal is not None:
        raise refusal


def _check_no_file_is_a_directory(paths: Set[str]) -> None:
    for path in sorted(paths):
        parts = path.split("/")
        if any("/".join(parts[:end]) in paths for end in range(1, len(parts))):
            raise invalid_field(
                "files", f"{quoted(path)} lies below another of the files, which no disk can hold: rename one"
            )


def _refuse_kind(path: str) -> ServiceError | None:
    if path == WEIGHTS_PATH or path.lower().endswith(_HARMLESS):
        return None
    if path.lower().endswith(_PICKLED):
        return malformed(path, f"is a pickle, which can run code when it is loaded: {_SAVE_SAFE}")
    return unsupported(
        path, f"is not taken: besides {WEIGHTS_PATH}, upload only {', '.join('*' + end for end in _HARMLESS)}"
    )
