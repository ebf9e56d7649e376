import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.servicer import wire
from tests.adapter_files import WEIGHTS, adapter_files, declared, large_adapter_files
from tests.integration.adapter_store.store_process import StoreProcess, chunks, push, read, register

LARGE = "README.md"
MODULE = [sys.executable, "-m", "services.adapter_store"]


def run(*argv):
    return subprocess.run([*MODULE, *argv], capture_output=True, text=True, timeout=60, check=False)


def test_life_of_a_store(tmp_path):
    data_dir, log, files = tmp_path / "store", tmp_path / "log", adapter_files()
    with StoreProcess(data_dir, log) as store:
        assert re.fullmatch(r"multilora store listening on 127\.0\.0\.1:\d+\n", store.ready_line)
        register(store.stub)
        version = push(store.stub, "acme/support", files)
        assert (pb.VersionState.Name(version.state), version.rank) == ("ACTIVE", 4)
        assert "access control is off" in log.read_text()
        second = run("--data-dir", str(data_dir), "--listen", "127.0.0.1:0")
        assert (second.returncode, "in use" in second.stderr) == (1, True)
        in_use = run("check", "--data-dir", str(data_dir))
        assert (in_use.returncode, "in use" in in_use.stderr) == (2, True)
        assert store.stop() == (0, "")
    assert "Traceback" not in log.read_text()

    checked = run("check", "--data-dir", str(data_dir))
    assert (checked.returncode, checked.stdout.splitlines()[-1]) == (0, "0 problems")
    assert "ACTIVE=1" in checked.stdout
    with StoreProcess(data_dir, log) as store:
        assert store.stub.ResolveVersion(pb.ResolveVersionRequest(name="acme/support")) == version
        assert read(store.stub, "acme/support", WEIGHTS) == files[WEIGHTS]
        os.kill(store.process.pid, signal.SIGINT)
        assert store.process.wait(30) == 0

    elsewhere = run(
        "--data-dir", str(data_dir), "--listen", "127.0.0.1:0", "--blob-url", f"file://{tmp_path}/b"
    )
    assert (elsewhere.returncode, elsewhere.stdout) == (1, "")
    assert "none is here: give the --blob-url" in elsewhere.stderr

    (digest,) = (file.sha256 for file in version.files if file.path == WEIGHTS)
    (data_dir / "blobs" / digest[:2] / digest[2:4] / digest).write_bytes(b"damaged")
    damaged = run("check", "--data-dir", str(data_dir))
    assert damaged.returncode == 1
    assert WEIGHTS in damaged.stdout


def test_usage_errors(tmp_path):
    remote = run("--data-dir", str(tmp_path), "--listen", "0.0.0.0:0")
    assert (remote.returncode, "--allow-remote" in remote.stderr) == (2, True)
    missing = run("check", "--data-dir", str(tmp_path / "none"))
    assert (missing.returncode, "not a directory" in missing.stderr) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        busy = run("--data-dir", str(tmp_path / "d"), "--listen", f"127.0.0.1:{port}")
    assert (busy.returncode, busy.stdout) == (1, "")
    assert str(port) in busy.stderr


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak memory from /proc")
def test_memory_stays_bounded_whatever_the_size(tmp_path):
    with StoreProcess(tmp_path / "store", tmp_path / "log") as store:
        register(store.stub)
        push(store.stub, "acme/support", adapter_files())
        read(store.stub, "acme/support", WEIGHTS)

        def peak_bytes():
            with open(f"/proc/{store.process.pid}/status") as status:
                (line,) = (line for line in status if line.startswith("VmHWM"))
            return int(line.split()[1]) << 10

        before_bytes = peak_bytes()
        files = large_adapter_files(96 << 20, seed=1)
        push(store.stub, "acme/support", files)
        assert read(store.stub, "acme/support", "README.md") == files["README.md"]
        # gRPC may hold a few MiB of a stream in flight each way; the file is never held.
        assert peak_bytes() - before_bytes < 48 << 20


def test_config_is_read_back_as_it_was(tmp_path):
    with StoreProcess(tmp_path / "store", tmp_path / "log", "--max-upload-bytes", "4KiB") as store:
        register(store.stub)
        push(store.stub, "acme/support", adapter_files(lora_alpha=3.5))
        assert json.loads(read(store.stub, "acme/support", "adapter_config.json"))["lora_alpha"] == 3.5
        with pytest.raises(grpc.RpcError) as caught:
            push(store.stub, "acme/support", large_adapter_files(5000, seed=1))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def stopped_in_an_upload(store, files):
    """Sends half of LARGE, has the store told to stop, and sends the rest; how the upload ended."""
    register(store.stub)
    started = store.stub.StartUpload(
        pb.StartUploadRequest(parent="acme/support", files=wire.files(declared(files)), request_id="one")
    )
    half, was_told = len(files[LARGE]) // 2, threading.Event()

    def messages():
        for message in chunks(started.upload_id, LARGE, files[LARGE], 0):
            if message.write_offset > half and not was_told.is_set():
                was_told.set()
                health = health_pb2_grpc.HealthStub(store.channel).Watch(health_pb2.HealthCheckRequest())
                assert next(health).status == health_pb2.HealthCheckResponse.SERVING
                store.process.terminate()
                assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
                health.cancel()
            yield message

    return store.stub.Upload.future(messages()), started


def test_an_upload_goes_on_in_a_drain(tmp_path):
    files = large_adapter_files(1 << 20, seed=1)
    with StoreProcess(tmp_path / "store", tmp_path / "log") as store:
        upload, _ = stopped_in_an_upload(store, files)
        assert upload.result(timeout=30).persisted_bytes == len(files[LARGE])
        assert store.process.wait(30) == 0


def test_an_upload_that_a_drain_has_no_time_for_is_gone_on_with(tmp_path):
    files = large_adapter_files(1 << 20, seed=1)
    with StoreProcess(tmp_path / "store", tmp_path / "log", "--drain-grace-s", "0") as store:
        upload, started = stopped_in_an_upload(store, files)
        # Whether it was faster than the end of the store is chance.
        upload.exception(timeout=30)
        assert store.process.wait(30) == 0
    with StoreProcess(tmp_path / "store", tmp_path / "log") as store:
        status = store.stub.GetUpload(pb.GetUploadRequest(upload_id=started.upload_id))
        persisted = {each.path: each.persisted_bytes for each in status.persisted}
        assert persisted[LARGE] > 0
        version = push(store.stub, "acme/support", files, request_id="one")
        assert pb.VersionState.Name(version.state) == "ACTIVE"
        assert read(store.stub, "acme/support", LARGE) == files[LARGE]
    assert "Traceback" not in (tmp_path / "log").read_text()
