"""Frees the blobs that nothing refers to, and says which blobs are missing.

Goes through the blob store and the rows side by side, a bounded page at a time, both in order of digest.
Safe beside anything else that any replica does: see metadata/blob_rows.py.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from services.adapter_store.blobs import BlobStore
from services.adapter_store.domain.actor import STORE, Actor
from services.adapter_store.domain.blob import StoredBlob
from services.adapter_store.domain.fields import check_range
from services.adapter_store.domain.garbage import DELETED_GRACE, Garbage
from services.adapter_store.garbage.deletion import delete_condemned
from services.adapter_store.metadata import Database
from services.adapter_store.metadata.timestamps import from_us

log = logging.getLogger(__name__)

DEFAULT_MIN_AGE_S = 3600
MAX_MIN_AGE_S = 10 * 366 * 86400
# What is told of damage fits one message.
MAX_MISSING = 10_000
# A token that is no good any more stays to be listed for so long.
KEEP_ENDED_TOKENS = timedelta(days=90)
_PAGE = 500


@dataclass(frozen=True, slots=True)
class _Run:
    """One collection: blobs younger than `before` stay."""

    dry_run: bool
    before: datetime


class Collector:
    """Collects garbage. `expire_uploads(dry_run)` gives up idle uploads and returns how many those are.

    `chores` are what else is kept for a time only: each is called by every collection that is no dry run.
    The files of a version stay for `deleted_grace` after it was deleted, whatever the age asked for.
    """

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        now: Callable[[], datetime],
        expire_uploads: Callable[[bool], int],
        chores: Sequence[Callable[[], object]] = (),
        deleted_grace: timedelta = DELETED_GRACE,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._now = now
        self._expire_uploads = expire_uploads
        self._chores = tuple(chores)
        self._deleted_grace = deleted_grace

    def collect(
        self,
        dry_run: bool,
        min_age_s: int | None = None,
        actor: Actor = STORE,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> Garbage:
        """Frees what nothing refers to; in a dry run only says what that is. Raises INVALID_FIELD.

        Ends early, with what was done by then, once `is_stopping` says so.
        """
        age_s = DEFAULT_MIN_AGE_S if min_age_s is None else min_age_s
        check_range(age_s, "min_age_s", low=0, high=MAX_MIN_AGE_S)
        expired_uploads = self._expire_uploads(dry_run)
        now = self._now()
        run = _Run(dry_run, now - timedelta(seconds=age_s))
        if not dry_run:
            self._trim(now)
            self._finish_deletions()
        found = Garbage(expired_uploads=expired_uploads)
        for after, page, last in _pages(self._blobs.entries()):
            if is_stopping():
                break
            found = self._add(found, self._visit(run, after, page, last))
        if not dry_run:
            self._note(found, actor)
        return found

    def _trim(self, now: datetime) -> None:
        with self._database.write() as uow:
            uow.leases.drop_expired(uow.now())
            uow.tokens.drop_ended(now - KEEP_ENDED_TOKENS)
            uow.commit()
        for chore in self._chores:
            try:
                chore()
            except Exception:
                # The next collection is another try; what this one is for does not wait for that.
                log.exception("a chore of collection failed")

    def _finish_deletions(self) -> None:
        with self._database.read() as uow:
            begun = uow.blobs.deleting()
        for sha256 in begun:
            delete_condemned(self._database, self._blobs, sha256)

    def _visit(self, run: _Run, after: str, page: Sequence[StoredBlob], last: str | None) -> Garbage:
        """What lies in the blob store, and what rows know, of digests in (after, last]."""
        there = {blob.sha256: blob for blob in page}
        with self._database.read() as uow:
            known = {sha256: from_us(us) for sha256, us in uow.blobs.create_times_us(after, last).items()}
            readable = uow.blobs.readable_between(after, last)
            now = uow.now()
            referred = uow.blobs.referred(there.keys() | known.keys(), now, now - self._deleted_grace)
        missing = [sha256 for sha256 in sorted(readable - there.keys()) if not self._blobs.has(sha256)]
        # Rows without bytes go as well: of an upload that was given up before they were stored.
        wanted = [
            sha256
            for sha256 in sorted((there.keys() | known.keys()) - referred)
            if known.get(sha256, run.before) <= run.before
            and (sha256 not in there or there[sha256].modify_time <= run.before)
        ]
        freed = wanted if run.dry_run else self._free(wanted)
        blobs = [there[sha256] for sha256 in freed if sha256 in there]
        return Garbage(
            freed_blobs=len(blobs),
            freed_bytes=sum(blob.size_bytes for blob in blobs),
            orphaned_blobs=sum(blob.sha256 not in known for blob in blobs),
            missing_sha256s=tuple(missing),
        )

    def _free(self, digests: Sequence[str]) -> list[str]:
        """Deletes those of `digests` that are still not referred to; returns which this call deleted."""
        if not digests:
            return []
        with self._database.write() as uow:
            now = uow.now()
            since = now - self._deleted_grace
            condemned = [sha256 for sha256 in digests if uow.blobs.condemn(sha256, now, since)]
            uow.commit()
        return [sha256 for sha256 in condemned if delete_condemned(self._database, self._blobs, sha256)]

    def _add(self, found: Garbage, more: Garbage) -> Garbage:
        return replace(
            found,
            freed_blobs=found.freed_blobs + more.freed_blobs,
            freed_bytes=found.freed_bytes + more.freed_bytes,
            orphaned_blobs=found.orphaned_blobs + more.orphaned_blobs,
            missing_sha256s=(*found.missing_sha256s, *more.missing_sha256s)[:MAX_MISSING],
        )

    def _note(self, found: Garbage, actor: Actor) -> None:
        if found.missing_sha256s:
            log.error("%d blobs of versions are missing from the blob store", len(found.missing_sha256s))
        if not found.freed_blobs:
            return
        log.info("%d blobs of %d bytes were freed", found.freed_blobs, found.freed_bytes)
        with self._database.write(actor) as uow:
            uow.audit.add("", "blobs", f"{found.freed_blobs} blobs of {found.freed_bytes} bytes freed")
            uow.commit()


def _pages(entries: Iterator[StoredBlob]) -> Iterator[tuple[str, Sequence[StoredBlob], str | None]]:
    """`entries` in pages, each with the digests that it lies between; the last page has no upper end."""
    after = ""
    while len(page := list(islice(entries, _PAGE))) == _PAGE:
        yield after, page, page[-1].sha256
        after = page[-1].sha256
    yield after, page, None
