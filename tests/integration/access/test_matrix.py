"""Each cell of the table in docs/access.md, against real servers: every RPC, every kind of caller."""

import grpc
import pytest

from protos.multilora.v1 import adapter_store_pb2 as store_pb
from protos.multilora.v1 import inference_pb2
from tests.access_table import PAGE, SERVICES, read_page, render, table_of
from tests.integration.access.inference_server import InferenceServer
from tests.integration.access.store_calls import CALLS as STORE_CALLS
from tests.integration.access.tenants import tenants
from tests.integration.adapter_store.store_process import error_info

DESCRIPTORS = {
    "AdapterStoreService": store_pb.DESCRIPTOR.services_by_name["AdapterStoreService"],
    "InferenceService": inference_pb2.DESCRIPTOR.services_by_name["InferenceService"],
}
REASONS = {"UNAUTHENTICATED": ("NO_TOKEN", "BAD_TOKEN"), "PERMISSION_DENIED": ("ROLE_TOO_LOW",)}
NOT_FOUND = ("ADAPTER_NOT_FOUND", "TENANT_NOT_FOUND", "UPLOAD_NOT_FOUND", "TOKEN_NOT_FOUND")


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    directory = tmp_path_factory.mktemp("access")
    with tenants(directory) as world, InferenceServer(directory, world) as inference:
        yield world, inference


def test_every_rpc_has_a_rule_and_the_page_shows_the_rules():
    for service, rules in SERVICES.items():
        assert list(rules) == [method.name for method in DESCRIPTORS[service].methods]
    assert table_of(PAGE.read_text()) == render(), "python -m tests.access_table"


@pytest.mark.parametrize(
    ("cell", "expected"),
    read_page().items(),
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_each_cell(servers, cell, expected):
    service, rpc, caller = cell
    world, inference = servers
    if service == "AdapterStoreService":
        call, stub = STORE_CALLS[rpc], world.stub(caller)
        request = call(world)
    else:
        request, stub = inference.request(rpc), inference.stub(caller)
    code, reason = outcome(rpc, getattr(stub, rpc), request)
    if expected == "yes":
        # ImportVersion gets as far as its source, which is not there.
        assert (code, reason) == ("OK", "") or (rpc == "ImportVersion" and reason in IMPORT_REASONS)
        return
    assert code == expected
    assert reason in REASONS.get(code, NOT_FOUND)
    if caller in ("expired", "revoked"):
        assert reason == "BAD_TOKEN"


IMPORT_REASONS = ("SOURCE_NOT_FOUND", "INVALID_FIELD")


def outcome(rpc: str, call, request) -> tuple[str, str]:
    try:
        answer = call(request)
        if rpc == "Watch":
            next(answer)
            answer.cancel()
        elif hasattr(answer, "__next__"):
            list(answer)
    except grpc.RpcError as error:
        return error.code().name, error_info(error).reason
    return "OK", ""
