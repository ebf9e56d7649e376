"""The deletion of one blob, which anybody may finish: who collects garbage, or who needs the bytes again.

Knows no reason why a blob goes: a row that is DELETING says that it does.
"""

from datetime import datetime

from services.adapter_store.blobs import BlobStore
from services.adapter_store.domain.blob import BlobState
from services.adapter_store.domain.version import VersionFile
from services.adapter_store.metadata import Database


def delete_condemned(database: Database, blobs: BlobStore, sha256: str) -> bool:
    """Deletes a blob whose row is DELETING, then the row; says whether it did.

    The row stays locked meanwhile, so that no late deletion can hit bytes that were stored again. If this
    process dies in between, the row stays, and whoever comes next does it again.
    """
    with database.write() as uow:
        if uow.blobs.lock(sha256) is BlobState.DELETING:
            blobs.delete(sha256)
            uow.blobs.delete(sha256)
            uow.commit()
            return True
    return False


def claim(database: Database, blobs: BlobStore, file: VersionFile, now: datetime) -> None:
    """To be called before `file`'s bytes are put into the blob store, once a version's row refers to them.

    From then on they stay, for as long as it does. A deletion that was begun is finished first.
    """
    while True:
        with database.write() as uow:
            state = uow.blobs.claim(file.sha256, file.size_bytes, now)
            uow.commit()
        if state in (BlobState.STORING, BlobState.STORED):
            return
        delete_condemned(database, blobs, file.sha256)
