"""Makes a version of a source's files: reads them to this machine's disk, then uploads them to ourselves.

So an import keeps every rule of an upload, and its request_id means the same. Knows no scheme and no wire.
"""

import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from services.adapter_store.catalog.lookup import find_adapter, find_version
from services.adapter_store.catalog.quotas import check_import_quotas
from services.adapter_store.domain.actor import Actor
from services.adapter_store.domain.fields import check_labels, check_text, quoted
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.upload import Upload, UploadState
from services.adapter_store.domain.version import AdapterVersion, Lineage, VersionFile
from services.adapter_store.imports.choice import choose
from services.adapter_store.imports.opening import ImportPlaces
from services.adapter_store.imports.scratch import Scratches
from services.adapter_store.imports.scratch_room import DEFAULT_MAX_BYTES, ScratchRoom
from services.adapter_store.imports.source import SourceFile
from services.adapter_store.metadata import Database
from services.adapter_store.uploads import Intake, Uploads
from services.adapter_store.uploads.signed import check_import_signed
from services.common.errors import ServiceError, invalid_field
from services.common.manifest_signature import Signature

MAX_SOURCE_CHARS = 1024
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """An ImportVersion as the caller asks for it."""

    parent: AdapterName
    source: str
    labels: Mapping[str, str]
    lineage: Lineage
    request_id: str
    signature: Signature | None = None

    @property
    def origin(self) -> str:
        """What the lineage says of where the version came from, but for what the source was pinned to."""
        return f"{self.lineage.notes}\nimported from {self.source}".lstrip("\n")

    def asks_for(self, version: AdapterVersion) -> bool:
        """Whether `version` is, or may become, what this request makes."""
        notes = version.lineage.notes
        return (
            (notes == self.origin or notes.startswith(f"{self.origin} at "))
            and replace(self.lineage, notes=notes) == version.lineage
            and dict(self.labels) == version.labels
            and self.signature == version.signature
        )


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """How much of one file has been read from the source."""

    path: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class ImportRoom:
    """What may be imported from, and where its bytes lie meanwhile: a directory that is made when needed.

    Each tenant's imports may hold `max_scratch_bytes` there.
    """

    scratch_dir: Path
    places: ImportPlaces
    max_scratch_bytes: int = DEFAULT_MAX_BYTES


NO_IMPORTS = ImportRoom(Path("imports"), ImportPlaces())

Report = Callable[[ImportProgress], None]


class ImportCancelledError(Exception):
    """The caller is gone; what came stays for the same request_id."""


class Importer:
    """Imports, each in the thread of its caller."""

    def __init__(
        self,
        database: Database,
        uploads: Uploads,
        intake: Intake,
        room: ImportRoom,
        max_upload_bytes: int,
    ) -> None:
        self._database = database
        self._uploads = uploads
        self._intake = intake
        self._scratches = Scratches(room.scratch_dir, ScratchRoom(room.max_scratch_bytes))
        self._open_source = room.places.open
        self._max_upload_bytes = max_upload_bytes

    def run(
        self, request: ImportRequest, actor: Actor, report: Report, is_cancelled: Callable[[], bool]
    ) -> AdapterVersion:
        """The version, ACTIVE. With the request_id of an earlier call: goes on with it, or gives its version.

        Raises SOURCE_NOT_FOUND, ADAPTER_NOT_FOUND, STORE_UNAVAILABLE, what an upload raises (QUOTA_EXCEEDED
        and BAD_SIGNATURE before bytes are read, as far as can be told by then), and ImportCancelledError soon
        after `is_cancelled` says so.
        """
        check_text(request.source, "source", max_chars=MAX_SOURCE_CHARS, required=True)
        check_text(request.request_id, "request_id", max_chars=128)
        check_labels(request.labels)
        known, pinned = self._earlier(request)
        if known is not None and known.state is not UploadState.OPEN:
            return self._uploads.finish(known.id, actor)

        def check() -> None:
            if is_cancelled():
                raise ImportCancelledError

        def check_and_report(file: SourceFile, num_bytes: int) -> None:
            check()
            report(ImportProgress(file.path, num_bytes, file.size_bytes))

        source = self._open_source(request.source, pinned)
        try:
            name = f"{request.parent}\n{request.request_id or uuid.uuid4().hex}\n{request.source}"
            with self._scratches.open(request.parent.tenant, name, keep=bool(request.request_id)) as scratch:
                chosen = choose(source.files, self._max_upload_bytes)
                if known is None:
                    self._check_unread(request, chosen)
                scratch.take_room(chosen)
                fetched = [
                    (scratch.fetch(source, request.source, file, check_and_report), scratch.path(file))
                    for file in chosen
                ]
                return self._upload(request, source.pinned, fetched, check, actor)
        finally:
            source.close()

    def _check_unread(self, request: ImportRequest, chosen: Sequence[SourceFile]) -> None:
        with self._database.read() as uow:
            check_import_signed(uow, request.parent, request.signature)
            check_import_quotas(uow, request.parent.tenant, sum(file.size_bytes for file in chosen))

    def sweep(self, older_than_s: float) -> None:
        """Removes what imports left that were last heard of before `older_than_s` (seconds since 1970)."""
        self._scratches.sweep(older_than_s)

    def _earlier(self, request: ImportRequest) -> tuple[Upload | None, str]:
        """The upload that an earlier call with this request_id started, and what it pinned the source to."""
        with self._database.read() as uow:
            adapter = find_adapter(uow, request.parent)
            if not request.request_id:
                return None, ""
            known = uow.uploads.by_request(adapter.id, request.request_id)
            if known is None:
                return None, ""
            version = find_version(uow, adapter, known.version)
        if not request.asks_for(version):
            raise invalid_field(
                "request_id",
                f"{quoted(request.request_id)} started something else for {request.parent}, with another "
                "source, or other labels, lineage or signature: use a new request_id",
            )
        return known, version.lineage.notes[len(f"{request.origin} at ") :]

    def _upload(
        self,
        request: ImportRequest,
        pinned: str,
        fetched: Sequence[tuple[VersionFile, Path]],
        check: Callable[[], None],
        actor: Actor,
    ) -> AdapterVersion:
        notes = f"{request.origin} at {pinned}" if pinned else request.origin
        lineage = replace(request.lineage, notes=notes)
        files = tuple(file for file, _ in fetched)
        upload, persisted = self._uploads.start(
            request.parent, files, request.labels, lineage, request.request_id, actor, request.signature
        )
        offsets = {file.path: file.persisted_bytes for file in persisted}
        with self._given_up_if_nobody_can_go_on(request, upload, actor):
            for file, path in fetched:
                if file.path not in upload.stored:
                    self._send(upload, file, offsets[file.path], path, check, actor)
            return self._uploads.finish(upload.id, actor)

    @contextlib.contextmanager
    def _given_up_if_nobody_can_go_on(
        self, request: ImportRequest, upload: Upload, actor: Actor
    ) -> Iterator[None]:
        """Else it would count against the tenant's quotas until it is idle for a day."""
        try:
            yield
        except BaseException:
            if not request.request_id:
                # It may be over, or the database away: what the caller gets is why.
                with contextlib.suppress(ServiceError):
                    self._uploads.abort(upload.id, actor)
            raise

    def _send(
        self,
        upload: Upload,
        file: VersionFile,
        offset: int,
        path: Path,
        check: Callable[[], None],
        actor: Actor,
    ) -> None:
        target = self._intake.open_file(upload.id, file.path)
        try:
            with path.open("rb") as fetched:
                fetched.seek(offset)
                while chunk := fetched.read(CHUNK_BYTES):
                    check()
                    self._intake.append(target, offset, chunk, None)
                    offset += len(chunk)
            self._intake.finish_file(target, actor)
        finally:
            self._intake.leave(target)
