"""What each RPC of the store asks of its caller. The guard enforces it; docs/access.md shows it."""

from services.common.access_rule import Rules, anywhere, inside, operators
from services.common.caller import Role

READER, PUBLISHER, ADMIN = Role.READER, Role.PUBLISHER, Role.ADMIN

RULES: Rules = {
    "RegisterBaseModel": operators(PUBLISHER),
    "GetBaseModel": anywhere(READER),
    "ListBaseModels": anywhere(READER),
    "CreateAdapter": inside(PUBLISHER, "adapter", "adapter.name"),
    "GetAdapter": inside(READER, "adapter", "name"),
    "ListAdapters": inside(READER, "tenant or all", "parent"),
    "UpdateAdapter": inside(PUBLISHER, "adapter", "adapter.name"),
    "DeleteAdapter": inside(ADMIN, "adapter", "name"),
    "StartUpload": inside(PUBLISHER, "adapter", "parent"),
    # Some thousands that bring nothing take as many times 20 KiB.
    "Upload": inside(PUBLISHER, "upload", "upload_id", lasting=True, most_open=256),
    "GetUpload": inside(PUBLISHER, "upload", "upload_id"),
    "AbortUpload": inside(PUBLISHER, "upload", "upload_id"),
    "FinishUpload": inside(PUBLISHER, "upload", "upload_id"),
    "GetVersion": inside(READER, "adapter", "name"),
    "ListVersions": inside(READER, "adapter", "parent"),
    "ResolveVersion": inside(READER, "adapter", "name"),
    "DisableVersion": inside(PUBLISHER, "adapter", "name"),
    "EnableVersion": inside(PUBLISHER, "adapter", "name"),
    "DeleteVersion": inside(ADMIN, "adapter", "name"),
    "ImportVersion": inside(PUBLISHER, "adapter", "parent", lasting=True, most_open=16),
    # Each may hold some chunks of 1 MiB for a reader that takes none.
    "Read": inside(READER, "adapter or key", "name", most_open=32),
    "SetAlias": inside(PUBLISHER, "adapter", "name"),
    "DeleteAlias": inside(PUBLISHER, "adapter", "name"),
    "ListAliasHistory": inside(READER, "adapter", "name"),
    "Promote": inside(PUBLISHER, "adapter", "name"),
    "Rollback": inside(PUBLISHER, "adapter", "name"),
    "Watch": inside(READER, "tenant or all", "parent", lasting=True, most_open=256),
    "AcquireLease": operators(READER),
    "ReleaseLease": operators(READER),
    "CollectGarbage": operators(ADMIN),
    "GetTenant": inside(READER, "tenant", "name"),
    "UpdateTenant": inside(ADMIN, "tenant", "tenant.name"),
    "CreateToken": inside(ADMIN, "tenant or *", "parent"),
    "ListTokens": inside(ADMIN, "tenant or *", "parent"),
    "RevokeToken": inside(ADMIN, "token", "token_id"),
    "Authenticate": operators(READER),
    "ListAuditLog": inside(ADMIN, "tenant or *", "parent"),
}
