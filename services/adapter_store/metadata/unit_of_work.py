"""One transaction over all of the store's rows; rolled back unless committed."""

from collections.abc import Callable

from sqlalchemy import Connection

from services.adapter_store.metadata.adapter_rows import AdapterRows
from services.adapter_store.metadata.alias_rows import AliasRows
from services.adapter_store.metadata.base_model_rows import BaseModelRows
from services.adapter_store.metadata.upload_rows import UploadRows
from services.adapter_store.metadata.version_rows import VersionRows


def _read_only() -> None:
    raise AssertionError("a unit of work opened by `read` cannot commit")


class UnitOfWork:
    """The rows of each noun, all in the same transaction."""

    def __init__(self, connection: Connection, commit: Callable[[], None] = _read_only) -> None:
        self.base_models = BaseModelRows(connection)
        self.adapters = AdapterRows(connection)
        self.versions = VersionRows(connection)
        self.aliases = AliasRows(connection)
        self.uploads = UploadRows(connection)
        self.commit = commit
