"""ImportVersion: an import runs in a thread of its own, and never waits for who reads its progress."""

import asyncio
import threading
from collections.abc import AsyncIterator

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.domain.names import parse_adapter
from services.adapter_store.domain.version import AdapterVersion
from services.adapter_store.imports import ImportProgress, ImportRequest
from services.adapter_store.servicer import wire
from services.adapter_store.servicer.calling import Context, actor_of
from services.adapter_store.servicer.import_threads import ImportThreads
from services.adapter_store.store import Store


class ImportRpcs:
    """ImportVersion."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._threads = ImportThreads()

    async def ImportVersion(
        self, request: pb.ImportVersionRequest, context: Context
    ) -> AsyncIterator[pb.ImportVersionResponse]:
        """See the proto."""
        wanted = ImportRequest(
            parse_adapter(request.parent, "parent"),
            request.source,
            dict(request.labels),
            wire.lineage_from(request.lineage),
            request.request_id,
            wire.signature_from(request),
        )
        latest = _Latest()
        is_cancelled = threading.Event()
        work = await self._threads.start(
            wanted.parent.tenant,
            lambda: self._store.importer.run(
                wanted, actor_of(context, "ImportVersion"), latest.put, is_cancelled.is_set
            ),
        )
        work.add_done_callback(latest.end)
        try:
            while (progress := await latest.take()) is not None:
                yield pb.ImportVersionResponse(
                    progress=pb.ImportProgress(
                        path=progress.path, done_bytes=progress.done_bytes, total_bytes=progress.total_bytes
                    )
                )
            yield pb.ImportVersionResponse(version=wire.version(await work))
        finally:
            is_cancelled.set()


class _Latest:
    """The newest progress of each file, from the import's thread to the event loop; older ones go."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[str, ImportProgress] = {}
        self._is_over = False
        self._changed = asyncio.Event()

    def put(self, progress: ImportProgress) -> None:
        """From the import's thread."""
        self._loop.call_soon_threadsafe(self._put, progress)

    def end(self, work: "asyncio.Future[AdapterVersion]") -> None:
        """The import is over, well or not. Whoever left does not hear how."""
        if not work.cancelled():
            work.exception()
        self._is_over = True
        self._changed.set()

    async def take(self) -> ImportProgress | None:
        """The next progress; None once the import is over."""
        while not self._waiting:
            if self._is_over:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.pop(next(iter(self._waiting)))

    def _put(self, progress: ImportProgress) -> None:
        self._waiting[progress.path] = progress
        self._changed.set()
