"""ImportVersion: versions made of a local directory, of object storage, of a model hub."""

from services.adapter_store.imports.importer import (
    NO_IMPORTS,
    Importer,
    ImportProgress,
    ImportRequest,
    ImportRoom,
)
from services.adapter_store.imports.opening import ImportPlaces

__all__ = ["NO_IMPORTS", "ImportPlaces", "ImportProgress", "ImportRequest", "ImportRoom", "Importer"]
