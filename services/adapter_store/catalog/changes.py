"""Gives watchers the changes in the order of their commits, from any position on. Knows no streams."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.adapter_store.domain.change import Change
from services.adapter_store.domain.resume_token import Position, decode
from services.adapter_store.metadata import Database, UnitOfWork

# A watcher that was away for longer has to forget what it remembers and start anew.
KEEP_CHANGES = timedelta(days=7)
MAX_BATCH = 256


@dataclass(frozen=True, slots=True)
class Batch:
    """Changes, and the position after them.

    `is_reset`: what came after the position asked for is not known; this one is of now. `is_all`: these were
    the last there are.
    """

    changes: tuple[Change, ...]
    position: Position
    is_reset: bool
    is_all: bool


class Changes:
    """Changes by position. `now` is the clock."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    def open(self, resume_token: str) -> Batch:
        """Where a watcher starts: no changes yet. Raises INVALID_FIELD."""
        asked = decode(resume_token) if resume_token else None
        with self._database.read() as uow:
            now = uow.changes.now()
            if asked is None:
                return Batch((), now, is_reset=False, is_all=True)
            if not _is_known(uow, asked, now):
                return Batch((), now, is_reset=True, is_all=True)
            return Batch((), asked, is_reset=False, is_all=asked == now)

    def read(self, position: Position, tenant: str | None) -> Batch:
        """The changes after `position`, at most MAX_BATCH; of one tenant or of all."""
        with self._database.read() as uow:
            now = uow.changes.now()
            found = uow.changes.between(position.sequence, now.sequence, tenant, MAX_BATCH)
            # Only now: what was trimmed before the changes were read shows here.
            if not _is_known(uow, position, now):
                return Batch((), now, is_reset=True, is_all=True)
        is_all = len(found) < MAX_BATCH
        sequence = now.sequence if is_all else found[-1].sequence
        return Batch(tuple(found), Position(now.database_id, sequence), is_reset=False, is_all=is_all)

    def trim_changes(self, max_age: timedelta = KEEP_CHANGES) -> int:
        """Forgets changes older than that; says how many. Watchers that had yet to see them are reset."""
        with self._database.write() as uow:
            num_trimmed = uow.changes.trim(self._now() - max_age)
            uow.commit()
        return num_trimmed


def _is_known(uow: UnitOfWork, position: Position, now: Position) -> bool:
    """Whether every change after `position` is still there."""
    if position.database_id != now.database_id or position.sequence > now.sequence:
        return False
    oldest = uow.changes.oldest()
    return position.sequence >= (now.sequence if oldest is None else oldest - 1)
