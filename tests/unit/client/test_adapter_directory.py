import hashlib

import pytest

from client.adapter_directory import CONFIG, WEIGHTS, read_adapter_directory
from client.errors import MultiloraError


def test_config_and_weights_with_their_digests_and_nothing_else(tmp_path):
    (tmp_path / CONFIG).write_bytes(b"{}")
    (tmp_path / WEIGHTS).write_bytes(b"weights")
    (tmp_path / "optimizer.pt").write_bytes(b"not for serving")
    directory = read_adapter_directory(tmp_path)
    assert [(file.path, file.size_bytes, file.sha256) for file in directory.files] == [
        (CONFIG, 2, hashlib.sha256(b"{}").hexdigest()),
        (WEIGHTS, 7, hashlib.sha256(b"weights").hexdigest()),
    ]


def test_pickled_weights_are_sent_for_the_store_to_refuse_by_name(tmp_path):
    (tmp_path / CONFIG).write_bytes(b"{}")
    (tmp_path / "adapter_model.bin").write_bytes(b"pickle")
    assert [file.path for file in read_adapter_directory(tmp_path).files] == [CONFIG, "adapter_model.bin"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, f"no {CONFIG}"),
        ({CONFIG: b"{}"}, f"no {WEIGHTS}"),
        ({CONFIG: b"{}", WEIGHTS: b""}, "is empty"),
    ],
)
def test_what_is_missing_is_named(tmp_path, files, says):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MultiloraError, match=says) as refused:
        read_adapter_directory(tmp_path)
    assert refused.value.field == "directory"


def test_a_path_that_is_no_directory(tmp_path):
    with pytest.raises(MultiloraError, match="not a directory"):
        read_adapter_directory(tmp_path / "nowhere")
