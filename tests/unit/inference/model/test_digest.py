import hashlib
from pathlib import Path

import pytest

from services.inference.model.digest import base_model_digest


def _model(directory: Path, **files: bytes) -> Path:
    directory.mkdir()
    for name, content in files.items():
        (directory / name.replace("__", ".")).write_bytes(content)
    return directory


def test_the_digest_covers_the_config_and_every_shard_and_nothing_else(tmp_path: Path) -> None:
    files = {"config__json": b"{}", "a__safetensors": b"1", "b__safetensors": b"2"}
    digest = base_model_digest(_model(tmp_path / "one", **files))
    assert digest == base_model_digest(_model(tmp_path / "two", **files, README__md=b"x"))
    changed = [
        {**files, "config__json": b"{ }"},
        {**files, "b__safetensors": b"3"},
        {**files, "a__safetensors": b"2", "b__safetensors": b"1"},
        {"config__json": b"{}", "a__safetensors": b"1"},
        {"config__json": b"{}", "a__safetensors": b"12"},
    ]
    digests = {base_model_digest(_model(tmp_path / f"m{i}", **each)) for i, each in enumerate(changed)}
    assert len(digests | {digest}) == len(changed) + 1


def test_the_digest_is_sha256_over_names_and_sha256s(tmp_path: Path) -> None:
    directory = _model(tmp_path / "m", config__json=b"{}", model__safetensors=b"w")
    lines = [
        f"{name} {hashlib.sha256(content).hexdigest()}\n"
        for name, content in (("config.json", b"{}"), ("model.safetensors", b"w"))
    ]
    assert base_model_digest(directory) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_directory_without_config_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="config"):
        base_model_digest(tmp_path)
