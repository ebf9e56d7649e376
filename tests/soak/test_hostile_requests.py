"""Fuzzed requests to every RPC of both services, as real processes: they answer, and nothing leaks."""

from pathlib import Path
from random import Random

import grpc
import pytest

from protos.multilora.v1 import adapter_store_pb2 as store_pb
from protos.multilora.v1 import inference_pb2 as inference_pb
from protos.multilora.v1.adapter_store_pb2_grpc import AdapterStoreServiceStub
from tests.adapter_files import adapter_files
from tests.e2e.processes import Services, running_services
from tests.integration.adapter_store.store_process import push, register
from tests.soak.hostile_messages import hostile_request
from tests.soak.process_memory import resident_bytes

MODEL = Path(__file__).parents[2] / "demo" / "model"
REQUESTS_A_METHOD = 2000
# A defect answers INTERNAL with an incident, or UNKNOWN where the chassis was passed by.
DEFECTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
SERVICES = {
    "store": store_pb.DESCRIPTOR.services_by_name["AdapterStoreService"],
    "inference": inference_pb.DESCRIPTOR.services_by_name["InferenceService"],
}
# Ends a server stream that would go on, and a generation.
TIMEOUT_S = 0.3
MAX_GROWTH_BYTES = 192 << 20

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("hostile")
    with running_services(work_dir, MODEL, "--cache-dir", str(work_dir / "cache")) as services:
        yield services


def answers(channel: grpc.Channel, method, data: bytes) -> grpc.StatusCode:
    """How the service answers one request, a stream read to its end or the timeout."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    streams = {(False, False): "unary_unary", (False, True): "unary_stream"}
    streams |= {(True, False): "stream_unary", (True, True): "stream_stream"}
    name = streams[method.client_streaming, method.server_streaming]
    call = getattr(channel, name)(path, request_serializer=None, response_deserializer=None)
    sent = iter([data]) if method.client_streaming else data
    try:
        answer = call(sent, timeout=TIMEOUT_S)
        if method.server_streaming:
            for _ in answer:
                pass
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("name", SERVICES)
def test_no_request_is_a_defect_and_none_grows_the_process(services: Services, name, rounds):
    service = getattr(services, name)
    register_once(services)
    random = Random(7)
    with grpc.insecure_channel(service.address) as channel:
        for method in SERVICES[name].methods:
            answers(channel, method, b"")
        before = resident_bytes(service.process.pid)
        for method in SERVICES[name].methods:
            # A call that only its timeout ends says the same each time: fewer of them.
            share = 0.05 if method.server_streaming else 1.0
            for _ in range(rounds(round(REQUESTS_A_METHOD * share), least=20)):
                data = hostile_request(method, random)
                code = answers(channel, method, data)
                assert code not in DEFECTS, f"{method.name} {code} for {data!r}"
        assert service.process.poll() is None
        grown = resident_bytes(service.process.pid) - before
        assert grown < MAX_GROWTH_BYTES, f"{name} grew by {grown >> 20} MiB"


def register_once(services: Services) -> None:
    """An adapter of the tiny model with a version, so that names in requests mean something."""
    with grpc.insecure_channel(services.store.address) as channel:
        stub = AdapterStoreServiceStub(channel)
        if not stub.ListAdapters(store_pb.ListAdaptersRequest(parent="tenants/acme")).adapters:
            register(stub)
            push(stub, "acme/support", adapter_files())
