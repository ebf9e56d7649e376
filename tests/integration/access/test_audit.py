"""Every RPC that changes something leaves a line in the audit log, by the name of whoever called."""

import pytest

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.servicer import wire
from tests.adapter_files import BASE_MODEL, adapter_files
from tests.integration.access.store_calls import CALLS
from tests.integration.access.tenants import ACME, tenants

LOOKING = {
    "GetBaseModel", "ListBaseModels", "GetAdapter", "ListAdapters", "GetUpload", "GetVersion", "ListVersions",
    "ResolveVersion", "Read", "ListAliasHistory", "Watch", "GetTenant", "ListTokens", "Authenticate",
    "ListAuditLog",
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    directory = tmp_path_factory.mktemp("audit")
    source = directory / "source"
    source.mkdir()
    for path, data in adapter_files().items():
        (source / path).write_bytes(data)
    with tenants(directory, "--import-dir", str(directory)) as world:
        world.source = source
        yield world


def other_max_rank(world):
    model = wire.base_model(BASE_MODEL)
    model.max_rank = 5 + world.number()
    return pb.RegisterBaseModelRequest(base_model=model)


def whole_file(world):
    [first, *_] = world.unsent_messages()
    return iter([first])


def held_lease(world):
    lease_id = f"held{world.number()}"
    world.operator.AcquireLease(pb.AcquireLeaseRequest(lease_id=lease_id, ttl_s=60))
    return pb.ReleaseLeaseRequest(lease_id=lease_id)


def directory(world):
    return pb.ImportVersionRequest(parent=world.make_adapter(), source=str(world.source))


def garbage(world):
    world.operator.AbortUpload(pb.AbortUploadRequest(upload_id=world.make_upload(sent=True)))
    return pb.CollectGarbageRequest(min_age_s=0)


def signatures_as_they_are_not(world):
    now = world.operator.GetTenant(pb.GetTenantRequest(name=ACME)).require_signatures
    tenant = pb.Tenant(name=ACME, require_signatures=not now)
    return pb.UpdateTenantRequest(tenant=tenant, update_mask={"paths": ["require_signatures"]})


# Where the request of the access matrix changes nothing, one that does.
CHANGING = {
    "RegisterBaseModel": other_max_rank,
    "Upload": whole_file,
    "ReleaseLease": held_lease,
    "ImportVersion": directory,
    "CollectGarbage": garbage,
    "UpdateTenant": signatures_as_they_are_not,
}


@pytest.mark.parametrize("rpc", sorted(CALLS.keys() - LOOKING))
def test_a_change_is_in_the_log_under_its_callers_name(world, rpc):
    request = CHANGING.get(rpc, CALLS[rpc])(world)
    everything = pb.ListAuditLogRequest(parent="tenants/*", page_size=1000)
    before = len(world.operator.ListAuditLog(everything).entries)
    answer = getattr(world.operator, rpc)(request)
    if hasattr(answer, "__next__"):
        list(answer)
    entries = world.operator.ListAuditLog(everything).entries
    new = entries[: len(entries) - before]
    operator = world.secrets["operator"].split("_")[1]
    assert {(entry.actor, entry.action) for entry in new} == {(operator, rpc)}
    assert all(entry.resource for entry in new)
    if rpc == "UpdateTenant":
        world.operator.UpdateTenant(signatures_as_they_are_not(world))


def test_what_only_looks_leaves_no_line(world):
    everything = pb.ListAuditLogRequest(parent="tenants/*", page_size=1000)
    for rpc in sorted(LOOKING):
        request = CALLS[rpc](world)
        before = world.operator.ListAuditLog(everything).entries[0]
        answer = getattr(world.operator, rpc)(request)
        if rpc == "Watch":
            next(answer)
            answer.cancel()
        elif hasattr(answer, "__next__"):
            list(answer)
        assert world.operator.ListAuditLog(everything).entries[0] == before


def test_no_secret_is_in_the_log(world):
    world.make_token()
    log = world.operator.ListAuditLog(pb.ListAuditLogRequest(parent="tenants/*", page_size=1000))
    text = str(log)
    assert not any(secret and secret.split("_", 2)[2] in text for secret in world.secrets.values())
