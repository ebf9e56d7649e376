"""Holds a store that starts to where its database's bytes are. Must not know which place that is."""

from services.adapter_store.blobs import BlobStore
from services.adapter_store.metadata import Database
from services.common.errors import ServiceError

# Some may be damaged: one that is there will do.
MAX_LOOKED_FOR = 16


def check_right_place(database: Database, blobs: BlobStore) -> None:
    """Raises OSError if versions may be read and none of the bytes looked for are in `blobs`.

    A replica with another --blob-url than the others would take uploads that only itself could read.
    """
    with database.read() as uow:
        wanted = uow.blobs.some_readable(MAX_LOOKED_FOR)
    try:
        if not wanted or any(blobs.has(sha256) for sha256 in wanted):
            return
    except ServiceError as error:
        raise OSError(f"--blob-url: {error.message}") from error
    raise OSError(
        f"--blob-url: the database has versions, and of {len(wanted)} of their files none is here: give the "
        "--blob-url that this database's stores have had (or --data-dir, where blobs lie there); if the "
        "bytes are lost, restore them from a backup first"
    )
