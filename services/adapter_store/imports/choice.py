"""Which of a source's files make a version: an upload's own rules, and nothing that training left behind."""

from collections.abc import Iterable

from services.adapter_store.domain.version import VersionFile
from services.adapter_store.imports.source import SourceFile
from services.adapter_store.manifest import check_files
from services.adapter_store.manifest.file_list import CONFIG_PATH, WEIGHTS_PATH

_EXTRAS = frozenset(
    {
        "README.md",
        "added_tokens.json",
        "chat_template.json",
        "merges.txt",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
        "vocab.json",
        "vocab.txt",
    }
)
# Taken only where there are no better weights, so that the refusal says why.
_PICKLES = ("adapter_model.bin", "adapter_model.pt")
_NOT_KNOWN_YET = "0" * 64


def choose(files: Iterable[SourceFile], max_upload_bytes: int) -> tuple[SourceFile, ...]:
    """The adapter's files, in order of their paths, before a byte of them is read.

    Raises what an upload of them would: INVALID_ADAPTER, UNSUPPORTED_ADAPTER, INVALID_FIELD.
    """
    by_path = {file.path: file for file in files}
    paths = [path for path in by_path if path in (CONFIG_PATH, WEIGHTS_PATH) or path in _EXTRAS]
    if WEIGHTS_PATH not in by_path:
        paths += [path for path in _PICKLES if path in by_path]
    chosen = tuple(by_path[path] for path in sorted(paths))
    if not chosen:
        # An empty list would be refused in words about an upload's fields.
        chosen_files = [VersionFile("README.md", 0, _NOT_KNOWN_YET)]
    else:
        chosen_files = [VersionFile(file.path, file.size_bytes, _NOT_KNOWN_YET) for file in chosen]
    check_files(chosen_files, max_upload_bytes)
    return chosen
