import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapter_store.domain.version import VersionFile
from services.adapter_store.manifest.file_list import MAX_FILES, check_files, check_first_bytes
from services.common.errors import Reason, ServiceError
from tests.adapter_files import CONFIG, WEIGHTS, adapter_files, declared, with_header

FINE = declared(adapter_files())
LIMIT = 1 << 20


def refusal(files, limit=LIMIT):
    with pytest.raises(ServiceError) as caught:
        check_files(files, limit)
    return caught.value


def extra(path, size_bytes=1, digest="a" * 64):
    return (*FINE, VersionFile(path, size_bytes, digest))


@pytest.mark.parametrize(
    "path", ["README.md", "tokenizer.json", "notes/run_1.txt", "tokenizer.model", "x.JSON"]
)
def test_harmless_files_are_taken(path):
    check_files(extra(path), LIMIT)


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd.json", "../x.json", "a/../x.json", "a//b.json", "./x.json", ".hidden.json", "a/.b.json",
     "a\\b.json", "a\x00.json", "x.json\n", "é.json", "a/" * 120 + "x.json", "-x.json", "C:/x.json"],
)  # fmt: skip
def test_paths_that_are_not_plain_and_relative(path):
    error = refusal(extra(path))
    assert (error.reason, error.field) == (Reason.INVALID_FIELD, "files[2].path")


@pytest.mark.parametrize("path", ["adapter_config.json/x.json", "Adapter_Model.safetensors/a/b.json"])
def test_no_file_is_a_directory_of_others(path):
    error = refusal(extra(path))
    assert (error.reason, error.field) == (Reason.INVALID_FIELD, "files")
    assert "below another" in error.message
    check_files(extra("adapter_config/x.json"), LIMIT)


@given(st.text(max_size=60))
def test_no_path_gets_out_of_its_directory(path):
    try:
        check_files(extra(path), LIMIT)
    except ServiceError:
        return
    assert not path.startswith("/")
    assert ".." not in path.split("/")
    assert path.isascii()


@pytest.mark.parametrize(
    "path", ["adapter_model.bin", "x.pt", "x.PTH", "optimizer.pkl", "a/b.ckpt", "x.pickle"]
)
def test_pickles_are_refused_by_name(path):
    error = refusal(extra(path))
    assert (error.reason, error.field) == (Reason.INVALID_ADAPTER, path)
    assert "pickle" in error.message
    assert "safe_serialization" in error.message


@pytest.mark.parametrize("path", ["run.py", "model.safetensors", "other.safetensors", "noending"])
def test_other_kinds_are_refused_by_name(path):
    assert refusal(extra(path)).reason is Reason.UNSUPPORTED_ADAPTER


@pytest.mark.parametrize("missing", [CONFIG, WEIGHTS])
def test_both_files_of_an_adapter_are_needed(missing):
    error = refusal(tuple(file for file in FINE if file.path != missing))
    assert (error.reason, error.field) == (Reason.INVALID_ADAPTER, missing)


def test_bounds():
    assert refusal(()).field == "files"
    many = (*FINE, *(VersionFile(f"{i}.json", 1, "a" * 64) for i in range(MAX_FILES)))
    assert refusal(many).field == "files"
    assert refusal((*FINE, FINE[0])).field == "files"
    assert refusal(extra("Adapter_Config.json")).field == "files"
    assert refusal(extra("x.json", size_bytes=LIMIT)).field == "files"
    assert refusal(extra("x.json", size_bytes=-1)).field == "files[2].size_bytes"
    assert refusal(extra("x.json", digest="A" * 64)).field == "files[2].sha256"
    assert refusal((VersionFile(CONFIG, 2 << 20, "a" * 64), FINE[1]), 1 << 30).field == CONFIG
    assert "--max-upload-bytes" in refusal(FINE, limit=10).message


@pytest.mark.parametrize("path", [CONFIG, WEIGHTS, "README.md"])
@pytest.mark.parametrize(
    "data",
    [*(pickle.dumps({"a": [1.0] * 9}, protocol) for protocol in (2, 3, 4, 5)), b"PK\x03\x04" + b"x" * 12],
)
def test_disguised_pickles_and_archives(path, data):
    with pytest.raises(ServiceError) as caught:
        check_first_bytes(path, data[:16])
    assert (caught.value.reason, caught.value.field) == (Reason.INVALID_ADAPTER, path)


def test_a_safetensors_header_whose_length_looks_like_a_pickle_is_fine():
    data = with_header(b"{" + b" " * 0x27E + b"}")
    assert data[:2] == b"\x80\x02"
    check_first_bytes(WEIGHTS, data[:16])
    for head in (b"", b"{", b"# Hi"):
        check_first_bytes("README.md", head)
