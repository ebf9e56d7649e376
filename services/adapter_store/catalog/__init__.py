"""What callers may do with base models, adapters, versions, aliases, tenants, tokens and the audit log.

Knows no SQL, gRPC or bytes.
"""

from services.adapter_store.catalog.adapters import Adapters
from services.adapter_store.catalog.aliases import Aliases
from services.adapter_store.catalog.audit import AuditLog
from services.adapter_store.catalog.base_models import BaseModels
from services.adapter_store.catalog.changes import Changes
from services.adapter_store.catalog.deletions import Deletions
from services.adapter_store.catalog.tenants import Tenants
from services.adapter_store.catalog.tokens import Tokens
from services.adapter_store.catalog.versions import Versions

__all__ = [
    "Adapters",
    "Aliases",
    "AuditLog",
    "BaseModels",
    "Changes",
    "Deletions",
    "Tenants",
    "Tokens",
    "Versions",
]
