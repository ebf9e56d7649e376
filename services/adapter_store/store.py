"""Puts the store's parts together over one data directory, which it holds alone while it is open."""

import contextlib
import fcntl
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.adapter_store.blobs import BlobStore
from services.adapter_store.byte_places import open_byte_places
from services.adapter_store.catalog import (
    Adapters,
    Aliases,
    AuditLog,
    BaseModels,
    Changes,
    Deletions,
    Tenants,
    Tokens,
    Versions,
)
from services.adapter_store.database_settings import DatabaseSettings
from services.adapter_store.domain.garbage import DELETED_GRACE
from services.adapter_store.durable import make_dirs
from services.adapter_store.garbage import Collector, Leases
from services.adapter_store.imports import NO_IMPORTS, Importer, ImportPlaces, ImportRoom
from services.adapter_store.imports.scratch_room import DEFAULT_MAX_BYTES
from services.adapter_store.integrity import check_integrity, describe
from services.adapter_store.metadata import Database, migrate
from services.adapter_store.right_place import check_right_place
from services.adapter_store.settings import PlaceSettings
from services.adapter_store.staging import Staging
from services.adapter_store.upload_meter import UploadMeter
from services.adapter_store.uploads import IdleUploads, Intake, Uploads

log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


# What no open upload refers to stays so long in staging: an upload's rows follow its files.
KEEP_STAGED = timedelta(days=1)


class Store:
    """The parts by name. `check_integrity` is for a store that is at rest; `repr` counts by state."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        staging: Staging,
        max_upload_bytes: int,
        now: Callable[[], datetime] = utc_now,
        imports: ImportRoom = NO_IMPORTS,
        deleted_grace: timedelta = DELETED_GRACE,
    ) -> None:
        self._database = database
        self._staging = staging
        self.blobs = blobs
        self.base_models = BaseModels(database)
        self.adapters = Adapters(database, now)
        self.aliases = Aliases(database, now)
        self.versions = Versions(database, deleted_grace)
        self.changes = Changes(database, now)
        self.change_signal = database.change_signal
        self.deletions = Deletions(database, now, staging.discard)
        self.tenants = Tenants(database)
        self.tokens = Tokens(database, now)
        self.audit_log = AuditLog(database)
        self.upload_meter = UploadMeter()
        self.intake = Intake(database, blobs, staging, now, self.upload_meter)
        self.uploads = Uploads(
            database, blobs, staging, self.intake, now, max_upload_bytes, self.upload_meter
        )
        self.idle_uploads = IdleUploads(database, staging, now)
        self.importer = Importer(database, self.uploads, self.intake, imports, max_upload_bytes)
        self.leases = Leases(database)
        self.garbage = Collector(
            database,
            blobs,
            now,
            self.idle_uploads.expire,
            chores=[
                self.changes.trim_changes,
                lambda: staging.sweep(now() - KEEP_STAGED),
                lambda: self.importer.sweep((now() - KEEP_STAGED).timestamp()),
            ],
            deleted_grace=deleted_grace,
        )

    def check_right_place(self) -> None:
        """Raises OSError if the bytes that the database knows of lie elsewhere."""
        check_right_place(self._database, self.blobs)

    def check_integrity(self) -> list[str]:
        """What is wrong, one line each; every ACTIVE and DISABLED version's bytes are read and hashed."""
        return check_integrity(self._database, self.blobs, self._staging)

    def __repr__(self) -> str:
        return f"Store({describe(self._database)})"


@contextlib.contextmanager
def open_store(
    place: PlaceSettings,
    max_upload_bytes: int,
    import_places: ImportPlaces | None = None,
    max_scratch_bytes: int = DEFAULT_MAX_BYTES,
) -> Iterator[Store]:
    """The store of `place`, whose data directory it holds alone: each replica has its own.

    Raises OSError if another process holds it, or the database or the bytes cannot be opened.
    """
    make_dirs(place.data_dir)
    with (
        _held(place.data_dir),
        contextlib.closing(open_database(place)) as database,
        open_byte_places(place, place.data_dir, database, utc_now) as (blobs, staging),
    ):
        scratch_dir = place.data_dir / "imports"
        imports = ImportRoom(scratch_dir, import_places or ImportPlaces(), max_scratch_bytes)
        if not place.is_in_s3 and not place.database.startswith("sqlite"):
            log.warning("blobs lie in a local directory: no other store can run on this database")
        yield Store(database, blobs, staging, max_upload_bytes, utc_now, imports)


def open_database(place: DatabaseSettings) -> Database:
    """The database of `place`: the embedded one gets its tables here, any other must have them.

    Raises OSError if it cannot be opened, or has other tables.
    """
    if place.is_embedded:
        make_dirs(place.data_dir)
        done = migrate(place.database)
        if done.before != done.after:
            log.info("the embedded database had schema %s, and now has %s", done.before, done.after)
    return Database(place.database)


@contextlib.contextmanager
def _held(data_dir: Path) -> Iterator[None]:
    with (data_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(
                f"{data_dir} is in use by another adapter store: stop it, or give another --data-dir"
            ) from error
        yield
