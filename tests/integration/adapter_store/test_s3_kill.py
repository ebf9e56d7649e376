"""kill -9 of a store, or of the S3 server, in mid-upload; then another replica goes on."""

import contextlib
import random
import subprocess
import sys

import grpc
import pytest

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.servicer import wire
from tests.adapter_files import declared, large_adapter_files
from tests.integration.adapter_store.store_process import CHUNK_BYTES, StoreProcess, push, read, register

NAME = "acme/support"
# A few parts, and an end that is none.
FILE_BYTES = (20 << 20) + 12_345
BIG = "README.md"
# A part, and a tail.
FIRST_BYTES = 12 << 20
NUM_MESSAGES = FILE_BYTES // CHUNK_BYTES


class At:
    """Does something once, when the client is about to send message number `at_message`."""

    def __init__(self, at_message, action):
        self._left = at_message
        self._action = action

    def __call__(self):
        if self._left == 0:
            self._action()
        self._left -= 1


def check_at_rest(tmp_path, flags):
    """What `check` says of the store."""
    command = [sys.executable, "-m", "services.adapter_store", "check", "--data-dir", str(tmp_path / "check")]
    (tmp_path / "check").mkdir()
    found = subprocess.run([*command, *flags], capture_output=True, text=True, check=False)
    return found.returncode, found.stdout.splitlines()[-1:]


def start(store, files, request_id):
    """Starts, or finds, an upload."""
    return store.stub.StartUpload(
        pb.StartUploadRequest(parent=NAME, files=wire.files(declared(files)), request_id=request_id)
    )


def send_first(store, upload_id, data):
    """A stream that ends in the middle: what it sent is durable when it is answered."""
    messages = (
        pb.UploadRequest(
            upload_id=upload_id, path=BIG, write_offset=at, data=data[at : min(at + CHUNK_BYTES, FIRST_BYTES)]
        )
        for at in range(0, FIRST_BYTES, CHUNK_BYTES)
    )
    assert store.stub.Upload(messages).persisted_bytes == FIRST_BYTES


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_store_is_killed_and_another_goes_on(s3_server, s3_prefix, database_url, tmp_path):
    flags = [*s3_server.flags(s3_prefix), "--database-url", database_url]
    moments, log = random.Random(7), tmp_path / "log"
    with StoreProcess(tmp_path / "other", log, *flags) as other:
        register(other.stub)
        for number in range(1, 3):
            files = large_adapter_files(FILE_BYTES, seed=number)
            with StoreProcess(tmp_path / str(number), log, *flags) as store:
                send_first(store, start(store, files, f"push-{number}").upload_id, files[BIG])
                at = moments.randrange((FILE_BYTES - FIRST_BYTES) // CHUNK_BYTES)
                with contextlib.suppress(grpc.RpcError):
                    push(store.stub, NAME, files, f"push-{number}", At(at, store.process.kill))
                store.process.wait()
            persisted = {p.path: p.persisted_bytes for p in start(other, files, f"push-{number}").persisted}
            assert FIRST_BYTES <= persisted[BIG] <= len(files[BIG])
            version = push(other.stub, NAME, files, f"push-{number}")
            assert version.version == number
            for path, data in files.items():
                assert read(other.stub, f"{NAME}@{number}", path) == data
    assert check_at_rest(tmp_path, flags) == (0, ["0 problems"])


def test_the_s3_server_is_killed_and_the_same_calls_again_get_through(own_s3_server, tmp_path):
    flags, log = own_s3_server.flags("store"), tmp_path / "log"
    moments = random.Random(8)

    def strike():
        own_s3_server.kill()
        own_s3_server.start()

    with StoreProcess(tmp_path / "store", log, *flags) as store:
        register(store.stub)
        for number in range(1, 3):
            files = large_adapter_files(FILE_BYTES, seed=number)
            codes = []
            before_message = At(moments.randrange(NUM_MESSAGES // 3, NUM_MESSAGES), strike)
            for _ in range(8):
                try:
                    version = push(store.stub, NAME, files, f"push-{number}", before_message)
                    break
                except grpc.RpcError as error:
                    codes.append(error.code())
            assert {*codes} <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OUT_OF_RANGE}
            assert version.version == number
            for path, data in files.items():
                assert read(store.stub, f"{NAME}@{number}", path) == data


def test_wrong_credentials_and_a_missing_bucket_are_said_at_start(s3_server, tmp_path):
    command = [sys.executable, "-m", "services.adapter_store", "--listen", "127.0.0.1:0"]
    right = s3_server.flags("x")[-1]
    wrong = tmp_path / "wrong"
    wrong.write_text("[default]\naws_access_key_id = access\naws_secret_access_key = other\n")
    for number, (url, credentials, says) in enumerate(
        (
            (s3_server.url("x"), wrong, "credentials"),
            (s3_server.url("x").replace("s3://adapters", "s3://nobody"), right, "no bucket 'nobody'"),
            ("s3://adapters?endpoint=http://127.0.0.1:1", right, "does not answer"),
        )
    ):
        place = ["--data-dir", str(tmp_path / str(number)), "--blob-url", url]
        flags = [*place, "--blob-credentials-file", str(credentials)]
        found = subprocess.run([*command, *flags], capture_output=True, text=True, check=False, timeout=60)
        assert found.returncode == 1, found.stderr
        assert says in found.stderr
        assert "Traceback" not in found.stderr
