"""What the adapter store says of tokens and tenants, as values of this service."""

import logging
from datetime import UTC

import grpc

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.common.caller import Caller, Role
from services.common.errors import Code, Reason, ServiceError
from services.inference.adapters.store_errors import refused_field, store_error, store_unavailable
from services.inference.signing_rules import SigningRules
from services.inference.tenant_directory import TenantSettings
from services.inference.tenant_traffic import TenantQuotas

log = logging.getLogger(__name__)


def caller_from(token: pb.Token) -> Caller:
    """The holder of `token`. Raises STORE_UNAVAILABLE if that makes no sense."""
    try:
        role = Role(pb.Role.Name(token.role))
    except ValueError:
        raise store_unavailable(f"its role for token {token.token_id} is {token.role}") from None
    expire_time = token.expire_time.ToDatetime(tzinfo=UTC) if token.HasField("expire_time") else None
    return Caller(token.token_id, token.tenant.removeprefix("tenants/"), role, expire_time)


def token_error(error: grpc.RpcError) -> ServiceError:
    """Why Authenticate failed: by the caller's token, or by this service's own."""
    if error.code() is not grpc.StatusCode.UNAUTHENTICATED:
        return store_error(error)
    if refused_field(error) == "secret":
        return ServiceError(
            Code.UNAUTHENTICATED, Reason.BAD_TOKEN, error.details() or "the token is not good"
        )
    log.error("the adapter store refuses this service's own token (--store-token-file)")
    return store_unavailable("it refuses this service's own token")


def tenant_from(tenant: pb.Tenant) -> TenantSettings:
    """What `tenant` may use of this server, and whose signatures it trusts."""
    quotas = tenant.quotas
    return TenantSettings(
        TenantQuotas(quotas.max_queued_requests, quotas.max_tokens_per_minute, quotas.max_resident_bytes),
        SigningRules({key.key_id: key.public_key for key in tenant.trusted_keys}, tenant.require_signatures),
    )
