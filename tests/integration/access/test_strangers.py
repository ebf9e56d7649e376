"""What a token of another tenant learns of acme: nothing, in exactly the words for what nobody has."""

import grpc
import pytest

from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1 import inference_pb2
from tests.adapter_files import WEIGHTS
from tests.integration.access.inference_server import InferenceServer
from tests.integration.access.tenants import ACME, tenants
from tests.integration.adapter_store.store_process import error_info

NOBODYS = f"{ACME}/adapters/nobodys"
SIGHT = {
    "GetAdapter": lambda name: pb.GetAdapterRequest(name=name),
    "UpdateAdapter": lambda name: pb.UpdateAdapterRequest(adapter=pb.Adapter(name=name)),
    "DeleteAdapter": lambda name: pb.DeleteAdapterRequest(name=name),
    "GetVersion": lambda name: pb.GetVersionRequest(name=f"{name}/versions/1"),
    "ListVersions": lambda name: pb.ListVersionsRequest(parent=name),
    "ResolveVersion": lambda name: pb.ResolveVersionRequest(name=f"{name}/aliases/staging"),
    "DisableVersion": lambda name: pb.DisableVersionRequest(name=f"{name}/versions/1"),
    "EnableVersion": lambda name: pb.EnableVersionRequest(name=f"{name}/versions/1"),
    "DeleteVersion": lambda name: pb.DeleteVersionRequest(name=f"{name}/versions/1"),
    "Read": lambda name: pb.ReadRequest(name=f"{name}/versions/1", path=WEIGHTS),
    "SetAlias": lambda name: pb.SetAliasRequest(name=f"{name}/aliases/staging", version=1),
    "DeleteAlias": lambda name: pb.DeleteAliasRequest(name=f"{name}/aliases/staging"),
    "ListAliasHistory": lambda name: pb.ListAliasHistoryRequest(name=f"{name}/aliases/staging"),
    "Promote": lambda name: pb.PromoteRequest(name=name),
    "Rollback": lambda name: pb.RollbackRequest(name=f"{name}/aliases/production"),
    "GetUpload": lambda upload_id: pb.GetUploadRequest(upload_id=upload_id),
    "AbortUpload": lambda upload_id: pb.AbortUploadRequest(upload_id=upload_id),
    "FinishUpload": lambda upload_id: pb.FinishUploadRequest(upload_id=upload_id),
    "Upload": lambda upload_id: iter([pb.UploadRequest(upload_id=upload_id, path=WEIGHTS)]),
    "RevokeToken": lambda token_id: pb.RevokeTokenRequest(token_id=token_id),
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    directory = tmp_path_factory.mktemp("strangers")
    with tenants(directory) as world, InferenceServer(directory, world) as inference:
        yield world, inference


def refusal(call, request) -> tuple[str, str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        list(call(request))
    return caught.value.code().name, error_info(caught.value).reason, caught.value.details()


@pytest.mark.parametrize("rpc", SIGHT)
def test_what_is_anothers_sounds_like_what_is_nobodys(servers, rpc):
    world, _ = servers
    if rpc in ("GetUpload", "AbortUpload", "FinishUpload", "Upload"):
        theirs, nobodys = world.make_upload(), "f" * 32
    elif rpc == "RevokeToken":
        theirs, nobodys = world.make_token(), "f" * 12
    else:
        theirs, nobodys = world.make_alias("staging", "production"), NOBODYS
    stranger, operator = world.stub("other tenant"), world.operator
    said = refusal(getattr(stranger, rpc), SIGHT[rpc](nobodys))
    assert said[0] == "NOT_FOUND"
    assert said == refusal(getattr(operator, rpc), SIGHT[rpc](nobodys))
    code, reason, words = refusal(getattr(stranger, rpc), SIGHT[rpc](theirs))
    assert (code, reason, words.replace(theirs, nobodys)) == said


def test_a_key_reads_only_what_the_tenant_has_itself(servers):
    world, _ = servers
    request = pb.ReadRequest(key=world.shared_version().key, path=WEIGHTS)
    said = refusal(world.stub("other tenant").Read, request)
    unknown = pb.ReadRequest(key="0" * 64, path=WEIGHTS)
    assert said[:2] == ("NOT_FOUND", "VERSION_NOT_FOUND")
    assert said[2].replace(request.key, unknown.key) == refusal(world.operator.Read, unknown)[2]
    assert b"".join(chunk.data for chunk in world.stub("reader").Read(request))


def test_lists_and_watches_show_what_the_caller_may_see(servers):
    world, inference = servers
    mine = pb.CreateAdapterRequest(
        adapter=pb.Adapter(name="tenants/other/adapters/mine", base_model="acme/tiny")
    )
    stranger = world.stub("other tenant")
    with closing_watch(stranger) as changes:
        world.stub("publisher").DisableVersion(pb.DisableVersionRequest(name=world.make_version().name))
        if not stranger.ListAdapters(pb.ListAdaptersRequest()).adapters:
            stranger.CreateAdapter(mine)
        request = pb.UpdateTenantRequest(
            tenant=pb.Tenant(name="tenants/other", require_signatures=True),
            update_mask={"paths": ["require_signatures"]},
        )
        stranger.UpdateTenant(request)
        names = next(response for response in changes if response.changes).changes
        assert [change.name for change in names] == ["tenants/other"]
    listed = stranger.ListAdapters(pb.ListAdaptersRequest()).adapters
    assert [adapter.name for adapter in listed] == ["tenants/other/adapters/mine"]
    everything = world.operator.ListAdapters(pb.ListAdaptersRequest(page_size=1000)).adapters
    assert {adapter.name.split("/")[1] for adapter in everything} == {"acme", "other"}
    resident = inference.stub("other tenant").ListResidentAdapters(
        inference_pb2.ListResidentAdaptersRequest()
    )
    assert [row.adapter_version for row in resident.adapters] == ["tenants/other/adapters/y/versions/1"]
    log = stranger.ListAuditLog(pb.ListAuditLogRequest(parent="tenants/other", page_size=1000)).entries
    resources = {entry.resource for entry in log if not entry.resource.startswith("tokens/")}
    assert resources == {"tenants/other", "tenants/other/adapters/mine"}


def closing_watch(stub):
    call = stub.Watch(pb.WatchRequest())
    next(call)

    class Watching:
        def __enter__(self):
            return call

        def __exit__(self, *_):
            call.cancel()

    return Watching()


def test_the_inference_server_says_the_same_of_anothers_adapter_as_of_nobodys(servers):
    world, inference = servers
    theirs = world.shared_version().name
    stranger, operator = inference.stub("other tenant"), inference.stub("operator")
    nobodys = f"{NOBODYS}/versions/1"
    for rpc in ("Generate", "LoadAdapter", "UnloadAdapter"):
        named = lambda name, rpc=rpc: getattr(inference_pb2, f"{rpc}Request")(  # noqa: E731
            adapter=name, **({"text": "x"} if rpc == "Generate" else {})
        )
        said = refusal(getattr(stranger, rpc), named(nobodys))
        assert said == refusal(getattr(operator, rpc), named(nobodys))
        code, reason, words = refusal(getattr(stranger, rpc), named(theirs))
        theirs_adapter = theirs.partition("/versions/")[0]
        assert (code, reason, words.replace(theirs_adapter, NOBODYS)) == said


def test_what_is_nobodys_tenant_alone_is_for_operators(servers):
    world, _ = servers
    admin, acme = world.stub("admin"), pb.Tenant(name=ACME)
    for call, request in (
        (admin.CreateToken, pb.CreateTokenRequest(parent="tenants/*", role=pb.READER)),
        (admin.ListTokens, pb.ListTokensRequest(parent="tenants/*")),
        (admin.ListAuditLog, pb.ListAuditLogRequest(parent="tenants/*")),
        (admin.UpdateTenant, pb.UpdateTenantRequest(tenant=acme, update_mask={"paths": ["quotas"]})),
    ):
        assert refusal(call, request)[:2] == ("PERMISSION_DENIED", "ROLE_TOO_LOW")
    # Without a mask, a tenant's ADMIN changes all that he may: the quotas stay.
    limit = pb.UpdateTenantRequest(tenant={"name": ACME, "quotas": {"max_adapters": 500}})
    world.operator.UpdateTenant(limit)
    updated = admin.UpdateTenant(pb.UpdateTenantRequest(tenant={"name": ACME}))
    assert updated.quotas.max_adapters == 500


def test_a_services_own_token_is_told_from_its_callers(servers):
    world, _ = servers
    request = pb.AuthenticateRequest(secret=world.secrets["revoked"])
    with pytest.raises(grpc.RpcError) as caught:
        world.stub("service").Authenticate(request)
    assert error_info(caught.value).metadata["field"] == "secret"
    with pytest.raises(grpc.RpcError) as caught:
        world.stub("revoked").Authenticate(request)
    assert "field" not in error_info(caught.value).metadata
