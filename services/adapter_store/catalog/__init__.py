"""What callers may do with base models, adapters, versions and aliases. Knows no SQL, gRPC or bytes."""

from services.adapter_store.catalog.adapters import Adapters
from services.adapter_store.catalog.aliases import Aliases
from services.adapter_store.catalog.base_models import BaseModels
from services.adapter_store.catalog.changes import Changes
from services.adapter_store.catalog.deletions import Deletions
from services.adapter_store.catalog.versions import Versions

__all__ = ["Adapters", "Aliases", "BaseModels", "Changes", "Deletions", "Versions"]
