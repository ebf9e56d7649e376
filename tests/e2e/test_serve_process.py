"""The inference service as a process: how it starts, how it ends, and that nothing stays behind."""

import os
import select
import signal
import subprocess
import sys

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from protos.multilora.v1 import inference_pb2 as pb
from protos.multilora.v1 import inference_pb2_grpc as pb_grpc
from tests.e2e.processes import children, engine_of, start_inference, start_store
from tests.tiny_models import build_model

CONTEXT_TOKENS = 512
ENDLESS = pb.GenerateRequest(
    token_ids=pb.TokenIds(ids=[1, 2, 3]), sampling=pb.SamplingParams(ignore_eos=True)
)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "tiny"
    build_model(directory)
    return directory


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with start_store(tmp_path_factory.mktemp("store") / "data") as store:
        yield store


@pytest.fixture
def serve(model_dir, store, tmp_path):
    with start_inference(model_dir, store.address, tmp_path / "serve.log") as service:
        yield service


def wait_gone(pid: int) -> None:
    """Returns when the process has ended, which must be soon."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ended, _, _ = select.select([handle], [], [], 20)
        assert ended, f"process {pid} still runs"
    finally:
        os.close(handle)


def started_stream(channel: grpc.Channel):
    stream = pb_grpc.InferenceServiceStub(channel).Generate(ENDLESS)
    assert next(stream).HasField("started")
    return stream


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_streams_finish_and_leaves_no_process(serve, tmp_path, number):
    assert "access control is off: whoever reaches 127.0.0.1:" in (tmp_path / "serve.log").read_text()
    pids = children(serve.process.pid)
    with grpc.insecure_channel(serve.address) as channel:
        stream = started_stream(channel)
        # As a terminal or a supervisor does it: everybody gets the signal.
        for pid in (engine_of(serve), serve.process.pid):
            os.kill(pid, number)
        responses = list(stream)
    assert responses[-1].finished.reason == pb.LENGTH
    assert responses[-1].finished.usage.completion_tokens == CONTEXT_TOKENS - 3
    assert serve.process.wait(timeout=20) == 0
    for pid in pids:
        wait_gone(pid)


def test_a_killed_engine_fails_its_streams_and_is_started_again(serve, tmp_path):
    with grpc.insecure_channel(serve.address) as channel:
        streams = [started_stream(channel) for _ in range(3)]
        killed = engine_of(serve)
        os.kill(killed, signal.SIGKILL)
        for stream in streams:
            with pytest.raises(grpc.RpcError) as raised:
                list(stream)
            assert raised.value.code() == grpc.StatusCode.UNAVAILABLE
            assert b"ENGINE_DOWN" in rpc_status.from_call(raised.value).SerializeToString()
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        states = [next(health).status for _ in range(2)]
        assert states == [health_pb2.HealthCheckResponse.NOT_SERVING, health_pb2.HealthCheckResponse.SERVING]
        health.cancel()
        assert engine_of(serve) != killed
        stream = started_stream(channel)
        assert list(stream)[-1].finished.usage.completion_tokens == CONTEXT_TOKENS - 3
    assert "the engine process is gone (killed by SIGKILL)" in (tmp_path / "serve.log").read_text()
    assert serve.stop() == 0
    assert not list(serve.temporary_dir.iterdir()), "the killed engine left something"


def test_the_engine_does_not_outlive_its_front_end(serve):
    engine = engine_of(serve)
    serve.process.kill()
    serve.process.wait()
    wait_gone(engine)


def test_the_service_can_be_stopped_while_it_waits_for_a_store(model_dir):
    command = [sys.executable, "-m", "services.inference", "--model", str(model_dir), "--threads", "1"]
    flags = ["--store", "127.0.0.1:1", "--listen", "127.0.0.1:0"]
    with subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True) as process:
        assert any("the adapter store is not there yet" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("tokenizer.json", "error: --model: tokenizer.json: is missing"),
        ("config.json", "error: --model: config.json: cannot be read"),
    ],
)
def test_a_broken_model_directory_is_said_at_once(model_dir, tmp_path, broken, message):
    for path in model_dir.iterdir():
        if path.name != broken:
            (tmp_path / path.name).symlink_to(path)
    command = [sys.executable, "-m", "services.inference", "--model", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
