"""The adapter store's RPCs about tokens, tenants and the audit log, as a part of StoreClient."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from client.access import AuditEntry, CreatedToken, Quotas, Role, Tenant, Token, TrustedKey
from client.errors import rpc_errors
from client.pages import PAGE_SIZE, pages
from client.wire import decode
from protos.multilora.v1 import adapter_store_pb2 as pb


class StoreAccess:
    """Methods of StoreClient. A tenant is `acme` or `tenants/acme`; `*` means all of them."""

    _stub: Any

    async def create_token(
        self, tenant: str, role: Role, *, description: str = "", ttl_s: int = 0
    ) -> CreatedToken:
        """A new token; its secret is in the answer alone. `ttl_s` 0: it does not expire."""
        request = pb.CreateTokenRequest(
            parent=tenant_name(tenant), role=role.value, description=description, ttl_s=ttl_s
        )
        with rpc_errors():
            return decode(CreatedToken, await self._stub.CreateToken(request))

    async def list_tokens(self, tenant: str) -> list[Token]:
        """Every token of a tenant, or of all."""
        request = pb.ListTokensRequest(parent=tenant_name(tenant), page_size=PAGE_SIZE)
        listed = pages(self._stub.ListTokens, request)
        return [decode(Token, each) async for page in listed for each in page.tokens]

    async def revoke_token(self, token_id: str) -> Token:
        """Makes a token no good from now on."""
        with rpc_errors():
            return decode(Token, await self._stub.RevokeToken(pb.RevokeTokenRequest(token_id=token_id)))

    async def get_tenant(self, tenant: str) -> Tenant:
        """A tenant's quotas, what it uses of them, and its trusted keys."""
        with rpc_errors():
            return decode(Tenant, await self._stub.GetTenant(pb.GetTenantRequest(name=tenant_name(tenant))))

    async def update_tenant(
        self,
        tenant: str,
        *,
        quotas: Quotas | None = None,
        trusted_keys: Sequence[TrustedKey] | None = None,
        require_signatures: bool | None = None,
        etag: str = "",
    ) -> Tenant:
        """Changes what is not None. With `etag`, only if nobody else changed it since (ABORTED)."""
        changed = pb.Tenant(name=tenant_name(tenant), etag=etag)
        request = pb.UpdateTenantRequest(tenant=changed)
        if quotas is not None:
            values = {field.name: getattr(quotas, field.name) for field in pb.Quotas.DESCRIPTOR.fields}
            request.tenant.quotas.CopyFrom(pb.Quotas(**values))
            request.update_mask.paths.append("quotas")
        if trusted_keys is not None:
            request.tenant.trusted_keys.extend(
                pb.TrustedKey(key_id=key.key_id, public_key=key.public_key) for key in trusted_keys
            )
            request.update_mask.paths.append("trusted_keys")
        if require_signatures is not None:
            request.tenant.require_signatures = require_signatures
            request.update_mask.paths.append("require_signatures")
        if not request.update_mask.paths:
            return await self.get_tenant(tenant)
        with rpc_errors():
            return decode(Tenant, await self._stub.UpdateTenant(request))

    async def list_audit_log(
        self,
        tenant: str,
        *,
        resource_prefix: str = "",
        start_time: datetime | None = None,
        end_time: datetime | None = None,
    ) -> AsyncIterator[AuditEntry]:
        """Every change of a tenant, or of all, newest first; leave when there are enough.

        Of resources whose full names begin with `resource_prefix`, from `start_time` on and before `end_time`
        (aware), where given.
        """
        request = pb.ListAuditLogRequest(
            parent=tenant_name(tenant), page_size=PAGE_SIZE, resource_prefix=resource_prefix
        )
        for field, time in ((request.start_time, start_time), (request.end_time, end_time)):
            if time is not None:
                field.FromDatetime(time)
        async for page in pages(self._stub.ListAuditLog, request):
            for entry in page.entries:
                yield decode(AuditEntry, entry)


def tenant_name(tenant: str) -> str:
    """`acme` as `tenants/acme`; a full name as it is."""
    return tenant if tenant.startswith("tenants/") else f"tenants/{tenant}"
