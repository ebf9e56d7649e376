"""Open uploads that nobody sends to any more: given up after a day."""

import contextlib
from collections.abc import Callable
from datetime import datetime, timedelta

from services.adapter_store.domain.actor import STORE
from services.adapter_store.metadata import Database
from services.adapter_store.staging import Staging
from services.adapter_store.uploads.ending import give_up
from services.common.errors import ServiceError

IDLE_S = 86_400


class IdleUploads:
    """Those of every replica. `now` is the clock."""

    def __init__(self, database: Database, staging: Staging, now: Callable[[], datetime]) -> None:
        self._database = database
        self._staging = staging
        self._now = now

    def expire(self, dry_run: bool = False) -> int:
        """Gives up the uploads without news for a day; returns how many those are, also in a dry run."""
        idle = self._find(self._now() - timedelta(seconds=IDLE_S))
        for upload_id in () if dry_run else idle:
            with contextlib.suppress(ServiceError):  # it ended meanwhile
                why = "the upload was given up: nothing was sent for a day"
                give_up(self._database, self._staging, upload_id, why, STORE)
        return len(idle)

    def _find(self, before: datetime) -> list[str]:
        with self._database.read() as uow:
            found = [uow.uploads.get(upload_id) for upload_id in uow.uploads.open_ids()]
        # Outside the transaction: it may ask the disk, or the database once more.
        return [
            upload.id
            for upload in found
            if upload is not None
            and upload.create_time < before
            and self._staging.last_append(upload.id) < before
        ]
