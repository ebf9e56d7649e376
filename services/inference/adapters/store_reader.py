"""Reads the files of versions: straight from object storage where that is allowed, else through the store.

Must not know residency, the engine or what is in the files.
"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import grpc

from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1.adapter_store_pb2_grpc import AdapterStoreServiceStub
from services.common.hash_thread import HashThread
from services.inference.adapters.direct_read import DirectReadError, DirectReads
from services.inference.adapters.read_time import most_read_s
from services.inference.adapters.store_channel import open_channel
from services.inference.adapters.store_errors import corrupt, store_error, store_unavailable
from services.inference.adapters.store_link import StoreLink
from services.inference.request import AdapterFile

log = logging.getLogger(__name__)

RESOLVE_TIMEOUT_S = 5.0
# A shorter file is here sooner than its URL.
LEAST_DIRECT_BYTES = 1 << 20


class StoreReader:
    """For fetch threads: reads files, any number at once. Thread-safe.

    `direct` is None if every byte is to come through the store.
    """

    def __init__(self, link: StoreLink, direct: DirectReads | None = None) -> None:
        self._direct = direct
        self._channel = open_channel(link)
        self._stub: Any = AdapterStoreServiceStub(self._channel)

    def read(self, version_name: str, file: AdapterFile, to: Path, cancelled: Callable[[], bool]) -> None:
        """Writes `file` of that version to `to`, which appears only once it is whole and checked.

        What comes straight from object storage and is not right is read again through the store. Every chunk
        of that is checked against its crc32c, and the whole against size and sha256. Raises ServiceError
        (CORRUPT_BLOB, STORE_UNAVAILABLE, the store's refusal) or OSError.
        """
        handle, temporary = tempfile.mkstemp(prefix=f".{to.name}-", dir=to.parent)
        try:
            with os.fdopen(handle, "wb") as output:
                if not self._read_direct(version_name, file, output, cancelled):
                    self._read_through_store(version_name, file, output, cancelled)
            os.replace(temporary, to)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def close(self) -> None:
        """Ends the reads that run."""
        if self._direct is not None:
            self._direct.close()
        self._channel.close()

    def _read_direct(
        self, version_name: str, file: AdapterFile, output: BinaryIO, cancelled: Callable[[], bool]
    ) -> bool:
        """Whether the file is written, and right; if not, `output` is as it was."""
        if self._direct is None or file.size_bytes < LEAST_DIRECT_BYTES:
            return False
        try:
            url = self._read_url(version_name, file)
            if not url:
                return False
            self._direct.fetch(url, file, output, cancelled)
            return True
        except grpc.RpcError as error:
            # Such as: the version is disabled, but whoever has resolved it before may read it.
            log.info("no URL for %s of %s: %s", file.path, version_name, error.code().name)
        except DirectReadError as error:
            log.warning("%s of %s is read through the store instead: %s", file.path, version_name, error)
        output.seek(0)
        output.truncate()
        return False

    def _read_url(self, version_name: str, file: AdapterFile) -> str:
        """Where the file can be fetched right now; URLs expire, so they are not kept."""
        request = pb.ResolveVersionRequest(name=version_name, read_urls=True)
        version: pb.AdapterVersion = self._stub.ResolveVersion(request, timeout=RESOLVE_TIMEOUT_S)
        return next((found.read_url for found in version.files if found.path == file.path), "")

    def _read_through_store(
        self, version_name: str, file: AdapterFile, output: BinaryIO, cancelled: Callable[[], bool]
    ) -> None:
        request = pb.ReadRequest(name=version_name, path=file.path)
        call = self._stub.Read(request, timeout=most_read_s(file.size_bytes))
        try:
            _write_checked(call, version_name, file, output, cancelled)
        except BaseException as error:
            call.cancel()
            if isinstance(error, grpc.RpcError):
                raise store_error(error) from error
            raise


def _write_checked(
    chunks: Iterable[pb.ReadResponse],
    version_name: str,
    file: AdapterFile,
    output: BinaryIO,
    cancelled: Callable[[], bool],
) -> None:
    num_bytes = 0
    with HashThread() as hashing:
        for chunk in chunks:
            if cancelled():
                raise store_unavailable("this server is stopping")
            data = chunk.data  # a copy, each time
            if chunk.HasField("crc32c") and google_crc32c.value(data) != chunk.crc32c:
                raise corrupt(version_name, file.path, f"crc32c differs at byte {num_bytes}")
            num_bytes += len(data)
            if num_bytes > file.size_bytes:
                raise corrupt(version_name, file.path, f"longer than its {file.size_bytes} bytes")
            hashing.add_bytes(data)
            output.write(data)
        if num_bytes != file.size_bytes or hashing.hexdigest() != file.sha256:
            raise corrupt(version_name, file.path, "size or sha256 differs")
