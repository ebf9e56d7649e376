"""The metrics endpoint of the store's real process, scraped on loopback."""

import re
import socket
import subprocess
import sys

import grpc
import pytest

from protos.multilora.v1 import adapter_store_pb2 as pb
from tests.adapter_files import adapter_files
from tests.integration.adapter_store.store_process import StoreProcess, push, register
from tests.integration.telemetry.scrape import documented, families, scrape, value


def test_a_scrape_tells_of_uploads_validation_and_calls(tmp_path):
    log = tmp_path / "log"
    with StoreProcess(tmp_path / "store", log, "--metrics-port", "0") as store:
        metrics = re.search(r"metrics are at http://(127\.0\.0\.1:\d+)/metrics", log.read_text())[1]
        register(store.stub)
        files = adapter_files()
        push(store.stub, "acme/support", files)
        with pytest.raises(grpc.RpcError):
            push(store.stub, "acme/support", {**files, "adapter_config.json": b"{}"})
        with pytest.raises(grpc.RpcError):
            store.stub.GetAdapter(pb.GetAdapterRequest(name="acme/nobody"))
        samples = scrape(metrics)
        assert store.stop()[0] == 0
    assert value(samples, "multilora_store_upload_seconds_count") == 1
    assert value(samples, "multilora_store_validation_seconds_count", outcome="accepted") == 1
    assert value(samples, "multilora_store_validation_seconds_count", outcome="refused") == 1
    sent = sum(map(len, files.values())) + len(b"{}")
    assert value(samples, "multilora_store_received_bytes_total") == sent
    rpcs = "multilora_rpc_duration_seconds_count"
    assert value(samples, rpcs, method="FinishUpload", code="OK") == 1
    assert value(samples, rpcs, method="GetAdapter", code="NOT_FOUND") == 1
    assert families(samples) == documented("Store")
    assert value(samples, "process_resident_memory_bytes") > 0


def test_a_port_that_is_taken_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "services.adapter_store", "--data-dir", str(tmp_path / "store")]
        done = subprocess.run(
            [*command, "--listen", "127.0.0.1:0", "--metrics-port", port], capture_output=True, text=True
        )
    assert done.returncode == 1
    assert f"--metrics-port: cannot listen on 127.0.0.1:{port}" in done.stderr
