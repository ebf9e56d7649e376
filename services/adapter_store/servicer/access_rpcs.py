"""The RPCs about access: tenants, tokens, the audit log."""

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.catalog.tenants import ALL_FIELDS, OWN_FIELDS
from services.adapter_store.domain.names import parse_tenant, parse_tenant_or_all
from services.adapter_store.servicer import access_wire as wire
from services.adapter_store.servicer.calling import Context, actor_of, call
from services.adapter_store.servicer.pages import fit_page
from services.adapter_store.store import Store
from services.common.access_guard import caller_of, operators_only
from services.common.errors import ServiceError


class AccessRpcs:
    """Tenants, tokens and the audit log."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def GetTenant(self, request: pb.GetTenantRequest, context: Context) -> pb.Tenant:
        """See the proto."""
        name = parse_tenant(request.name, "name")
        return wire.tenant(await call(self._store.tenants.get, name, with_usage=not request.without_usage))

    async def UpdateTenant(self, request: pb.UpdateTenantRequest, context: Context) -> pb.Tenant:
        """See the proto."""
        sent, is_operator = request.tenant, caller_of(context).is_operator
        name = parse_tenant(sent.name, "tenant.name")
        paths = list(request.update_mask.paths) or (ALL_FIELDS if is_operator else OWN_FIELDS)
        if "quotas" in paths and not is_operator:
            raise operators_only("a change of quotas")
        values = wire.tenant_values(sent)
        changes = {field: values.get(field) for field in paths}
        actor = actor_of(context, "UpdateTenant")
        return wire.tenant(await call(self._store.tenants.update, name, sent.etag, changes, actor))

    async def CreateToken(self, request: pb.CreateTokenRequest, context: Context) -> pb.CreateTokenResponse:
        """See the proto."""
        tenant, role = parse_tenant_or_all(request.parent, "parent"), wire.role_from(request.role)
        secret, token = await call(
            self._store.tokens.create,
            tenant,
            role,
            request.description,
            request.ttl_s,
            actor_of(context, "CreateToken"),
        )
        return pb.CreateTokenResponse(secret=secret, token=wire.token(token))

    async def ListTokens(self, request: pb.ListTokensRequest, context: Context) -> pb.ListTokensResponse:
        """See the proto."""
        tenant = parse_tenant_or_all(request.parent, "parent")
        page = await call(self._store.tokens.list, tenant, request.page_size, request.page_token)
        messages, next_page_token = fit_page(page, wire.token)
        return pb.ListTokensResponse(tokens=messages, next_page_token=next_page_token)

    async def RevokeToken(self, request: pb.RevokeTokenRequest, context: Context) -> pb.Token:
        """See the proto."""
        actor = actor_of(context, "RevokeToken")
        return wire.token(await call(self._store.tokens.revoke, request.token_id, actor))

    async def Authenticate(self, request: pb.AuthenticateRequest, context: Context) -> pb.Token:
        """See the proto."""
        try:
            return wire.token(await call(self._store.tokens.authenticate, request.secret))
        except ServiceError as error:
            # So that a service can tell its callers' bad tokens from its own.
            error.field = "secret"
            raise

    async def ListAuditLog(
        self, request: pb.ListAuditLogRequest, context: Context
    ) -> pb.ListAuditLogResponse:
        """See the proto."""
        tenant = parse_tenant_or_all(request.parent, "parent")
        page = await call(
            self._store.audit_log.list,
            tenant,
            request.page_size,
            request.page_token,
            wire.audit_filter(request),
        )
        messages, next_page_token = fit_page(page, wire.audit_entry)
        return pb.ListAuditLogResponse(entries=messages, next_page_token=next_page_token)
