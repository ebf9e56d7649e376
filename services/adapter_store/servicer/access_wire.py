"""Tenants, tokens and the audit log to and from protobuf messages. Decides nothing."""

from dataclasses import asdict
from datetime import UTC

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.catalog.tenants import TenantView
from services.adapter_store.domain.audit_entry import AuditEntry
from services.adapter_store.domain.audit_filter import AuditFilter
from services.adapter_store.domain.tenant import Quotas, TrustedKey
from services.adapter_store.domain.token import Token
from services.adapter_store.servicer.wire import timestamp
from services.common.caller import Role
from services.common.errors import invalid_field


def token(value: Token) -> pb.Token:
    """A token's message."""
    message = pb.Token(
        token_id=value.id,
        tenant=f"tenants/{value.tenant}",
        role=value.role.value,
        description=value.description,
        create_time=timestamp(value.create_time),
        created_by=value.created_by,
    )
    if value.expire_time is not None:
        message.expire_time.CopyFrom(timestamp(value.expire_time))
    if value.revoke_time is not None:
        message.revoke_time.CopyFrom(timestamp(value.revoke_time))
    return message


def role_from(number: int) -> Role:
    """The role of a request. Raises INVALID_FIELD."""
    if number not in (pb.READER, pb.PUBLISHER, pb.ADMIN):
        raise invalid_field("role", "must be READER, PUBLISHER or ADMIN")
    return Role(pb.Role.Name(number))


def tenant(view: TenantView) -> pb.Tenant:
    """A tenant's message."""
    value = view.tenant
    return pb.Tenant(
        name=str(value),
        quotas=pb.Quotas(**asdict(value.quotas)),
        usage=pb.TenantUsage(**asdict(view.usage)),
        trusted_keys=[
            pb.TrustedKey(key_id=key.key_id, public_key=key.public_key) for key in value.trusted_keys
        ],
        require_signatures=value.require_signatures,
        etag=value.etag,
    )


def tenant_values(message: pb.Tenant) -> dict[str, object]:
    """The fields that UpdateTenant can change, as the caller gives them; not checked yet."""
    quotas = message.quotas
    return {
        "quotas": Quotas(**{field.name: getattr(quotas, field.name) for field in quotas.DESCRIPTOR.fields}),
        "trusted_keys": [TrustedKey(key.key_id, key.public_key) for key in message.trusted_keys],
        "require_signatures": message.require_signatures,
    }


def audit_filter(request: pb.ListAuditLogRequest) -> AuditFilter:
    """Which entries are asked for. Raises INVALID_FIELD for a time that there is not."""
    times = {}
    for field in ("start_time", "end_time"):
        try:
            value = getattr(request, field)
            times[field] = value.ToDatetime(tzinfo=UTC) if request.HasField(field) else None
        except (ValueError, OverflowError):
            raise invalid_field(field, "is no time between the years 1 and 9999") from None
    return AuditFilter(request.resource_prefix, times["start_time"], times["end_time"])


def audit_entry(value: AuditEntry) -> pb.AuditEntry:
    """An entry's message."""
    return pb.AuditEntry(
        time=timestamp(value.time),
        actor=value.actor,
        action=value.action,
        resource=value.resource,
        detail=value.detail,
    )
