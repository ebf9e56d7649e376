"""A fine request for each RPC of the store, about things of acme that are made for it."""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.servicer import wire
from tests.adapter_files import BASE_MODEL, WEIGHTS, adapter_files, declared
from tests.integration.access.tenants import ACME, Tenants


def start_upload(tenants: Tenants) -> Message:
    return pb.StartUploadRequest(parent=tenants.make_adapter(), files=wire.files(declared(adapter_files())))


def upload(tenants: Tenants) -> Any:
    request = pb.UploadRequest(upload_id=tenants.make_upload(), path=WEIGHTS, data=b"12")
    return iter([request, pb.UploadRequest(write_offset=2, data=b"34")])


def finish_upload(tenants: Tenants) -> Message:
    return pb.FinishUploadRequest(upload_id=tenants.make_upload(sent=True))


def rollback(tenants: Tenants) -> Message:
    name = f"{tenants.make_alias('production')}/aliases/production"
    tenants.push_again(name.partition("/aliases/")[0])
    tenants.operator.SetAlias(pb.SetAliasRequest(name=name, version=2))
    return pb.RollbackRequest(name=name)


def disabled(tenants: Tenants) -> str:
    name = tenants.make_version().name
    tenants.operator.DisableVersion(pb.DisableVersionRequest(name=name))
    return name


CALLS: dict[str, Callable[[Tenants], Any]] = {
    "RegisterBaseModel": lambda t: pb.RegisterBaseModelRequest(base_model=wire.base_model(BASE_MODEL)),
    "GetBaseModel": lambda t: pb.GetBaseModelRequest(base_model=BASE_MODEL.name),
    "ListBaseModels": lambda t: pb.ListBaseModelsRequest(),
    "CreateAdapter": lambda t: pb.CreateAdapterRequest(
        adapter=pb.Adapter(name=f"{ACME}/adapters/n{t.number()}", base_model=BASE_MODEL.name)
    ),
    "GetAdapter": lambda t: pb.GetAdapterRequest(name=t.make_adapter()),
    "ListAdapters": lambda t: pb.ListAdaptersRequest(parent=ACME),
    "UpdateAdapter": lambda t: pb.UpdateAdapterRequest(
        adapter=pb.Adapter(name=t.make_adapter(), display_name="x")
    ),
    "DeleteAdapter": lambda t: pb.DeleteAdapterRequest(name=t.make_adapter()),
    "StartUpload": start_upload,
    "Upload": upload,
    "GetUpload": lambda t: pb.GetUploadRequest(upload_id=t.make_upload()),
    "AbortUpload": lambda t: pb.AbortUploadRequest(upload_id=t.make_upload()),
    "FinishUpload": finish_upload,
    "GetVersion": lambda t: pb.GetVersionRequest(name=t.shared_version().name),
    "ListVersions": lambda t: pb.ListVersionsRequest(parent=t.make_adapter()),
    "ResolveVersion": lambda t: pb.ResolveVersionRequest(name=t.shared_version().name),
    "DisableVersion": lambda t: pb.DisableVersionRequest(name=t.make_version().name),
    "EnableVersion": lambda t: pb.EnableVersionRequest(name=disabled(t)),
    "DeleteVersion": lambda t: pb.DeleteVersionRequest(name=t.make_version().name),
    "ImportVersion": lambda t: pb.ImportVersionRequest(parent=t.make_adapter(), source="nowhere"),
    "Read": lambda t: pb.ReadRequest(name=t.shared_version().name, path=WEIGHTS),
    "SetAlias": lambda t: pb.SetAliasRequest(name=f"{t.make_alias()}/aliases/staging", version=1),
    "DeleteAlias": lambda t: pb.DeleteAliasRequest(name=f"{t.make_alias('staging')}/aliases/staging"),
    "ListAliasHistory": lambda t: pb.ListAliasHistoryRequest(
        name=f"{t.make_alias('staging')}/aliases/staging"
    ),
    "Promote": lambda t: pb.PromoteRequest(name=t.make_alias("staging")),
    "Rollback": rollback,
    "Watch": lambda t: pb.WatchRequest(parent=ACME),
    "AcquireLease": lambda t: pb.AcquireLeaseRequest(
        lease_id=f"l{t.number()}", keys=[t.shared_version().key], ttl_s=60
    ),
    "ReleaseLease": lambda t: pb.ReleaseLeaseRequest(lease_id="l"),
    "CollectGarbage": lambda t: pb.CollectGarbageRequest(dry_run=True),
    "GetTenant": lambda t: pb.GetTenantRequest(name=ACME),
    "UpdateTenant": lambda t: pb.UpdateTenantRequest(
        tenant=pb.Tenant(name=ACME, require_signatures=False),
        update_mask={"paths": ["require_signatures"]},
    ),
    "CreateToken": lambda t: pb.CreateTokenRequest(parent=ACME, role=pb.READER),
    "ListTokens": lambda t: pb.ListTokensRequest(parent=ACME),
    "RevokeToken": lambda t: pb.RevokeTokenRequest(token_id=t.make_token()),
    "Authenticate": lambda t: pb.AuthenticateRequest(secret=t.secrets["reader"]),
    "ListAuditLog": lambda t: pb.ListAuditLogRequest(parent=ACME),
}
