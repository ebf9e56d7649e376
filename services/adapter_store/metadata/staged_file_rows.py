"""Rows of files that are staged in object storage.

Two replicas may take bytes of the same file at once: every change says how many bytes it found persisted,
and is made only if that is still so.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, exists, func, insert, select, update

from services.adapter_store.domain.staged_file import StagedFile, StagedPart
from services.adapter_store.domain.upload import UploadState
from services.adapter_store.metadata.insertion import insert_if_absent
from services.adapter_store.metadata.tables import upload_files, upload_parts, uploads
from services.adapter_store.metadata.timestamps import from_us, to_us


class StagedFileRows:
    """Staged files by upload and position."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get(self, upload_id: str, position: int) -> StagedFile | None:
        """The file, if anything of it is staged."""
        query = select(upload_files).where(
            upload_files.c.upload_id == upload_id, upload_files.c.position == position
        )
        row = self._connection.execute(query).first()
        if row is None:
            return None
        parts = (
            select(upload_parts)
            .where(upload_parts.c.upload_id == upload_id, upload_parts.c.position == position)
            .order_by(upload_parts.c.part_number)
        )
        return StagedFile(
            multipart_id=row.multipart_id,
            persisted_bytes=row.persisted_bytes,
            tail_bytes=row.tail_bytes,
            tail_sha256=row.tail_sha256,
            hash_state=row.hash_state,
            parts=tuple(
                StagedPart(part.part_number, part.size_bytes, part.etag)
                for part in self._connection.execute(parts)
            ),
        )

    def replace(
        self, upload_id: str, position: int, before: StagedFile | None, after: StagedFile, now: datetime
    ) -> bool:
        """Makes `before` into `after`, which has the same parts or one more; says whether it was as `before`.

        Nothing is staged of an upload that is over: then it says no as well.
        """
        key = {"upload_id": upload_id, "position": position}
        values = {
            "multipart_id": after.multipart_id,
            "persisted_bytes": after.persisted_bytes,
            "tail_bytes": after.tail_bytes,
            "tail_sha256": after.tail_sha256,
            "hash_state": after.hash_state,
            "update_time_us": to_us(now),
        }
        if not self._is_open(upload_id):
            return False
        if before is None:
            if not insert_if_absent(self._connection, upload_files, {**key, **values}):
                return False
        else:
            query = (
                update(upload_files)
                .where(
                    upload_files.c.upload_id == upload_id,
                    upload_files.c.position == position,
                    upload_files.c.multipart_id == before.multipart_id,
                    upload_files.c.persisted_bytes == before.persisted_bytes,
                    upload_files.c.tail_bytes == before.tail_bytes,
                )
                .values(**values)
            )
            if self._connection.execute(query).rowcount != 1:
                return False
        for part in after.parts[len(before.parts) if before else 0 :]:
            row = {"part_number": part.number, "size_bytes": part.size_bytes, "etag": part.etag}
            self._connection.execute(insert(upload_parts).values(**key, **row))
        return True

    def delete(self, upload_id: str, position: int, multipart_id: str) -> bool:
        """Forgets the file if it still has this multipart upload; says whether it did."""
        query = delete(upload_files).where(
            upload_files.c.upload_id == upload_id,
            upload_files.c.position == position,
            upload_files.c.multipart_id == multipart_id,
        )
        if self._connection.execute(query).rowcount != 1:
            return False
        self._connection.execute(
            delete(upload_parts).where(
                upload_parts.c.upload_id == upload_id, upload_parts.c.position == position
            )
        )
        return True

    def positions(self, upload_id: str) -> Sequence[int]:
        """Positions of the upload's files of which something is staged, in order."""
        query = select(upload_files.c.position).where(upload_files.c.upload_id == upload_id)
        return [row.position for row in self._connection.execute(query.order_by(upload_files.c.position))]

    def last_update(self, upload_id: str) -> datetime | None:
        """When bytes of the upload last became durable."""
        query = select(func.max(upload_files.c.update_time_us)).where(upload_files.c.upload_id == upload_id)
        last = self._connection.execute(query).scalar()
        return None if last is None else from_us(last)

    def of_ended_uploads(self) -> Sequence[str]:
        """Uploads that are over and of which something is staged."""
        query = (
            select(upload_files.c.upload_id)
            .distinct()
            .join(uploads, uploads.c.id == upload_files.c.upload_id)
            .where(uploads.c.state != UploadState.OPEN.value)
        )
        return [row.upload_id for row in self._connection.execute(query)]

    def knows_multipart(self, multipart_id: str) -> bool:
        """Whether a staged file has this multipart upload."""
        query = select(upload_files.c.upload_id).where(upload_files.c.multipart_id == multipart_id)
        return self._connection.execute(query.limit(1)).first() is not None

    def knows_tail(self, upload_id: str, position: int, sha256: str) -> bool:
        """Whether the staged file has this tail."""
        found = self.get(upload_id, position)
        return found is not None and found.tail_sha256 == sha256

    def _is_open(self, upload_id: str) -> bool:
        query = select(exists().where(uploads.c.id == upload_id, uploads.c.state == UploadState.OPEN.value))
        return bool(self._connection.execute(query).scalar())
