"""Fetches one file by HTTP GET from object storage, checked as strictly as what the store sends.

Must not know the store: whoever calls has the URL, and another way if this one fails.
"""

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit

from services.common.hash_thread import HashThread
from services.inference.adapters.read_time import most_read_s
from services.inference.request import AdapterFile

TIMEOUT_S = 10.0

T = TypeVar("T")


class DirectReadError(Exception):
    """The file did not come, or not right; the text is for the log alone."""


class DirectReads:
    """GETs from any thread. `ca_file` vouches for servers; None: the authorities that the system trusts.

    `most_s` says how long a file of so many bytes may take.
    """

    def __init__(self, ca_file: Path | None = None, most_s: Callable[[int], float] = most_read_s) -> None:
        self._ca_file = ca_file
        self._most_s = most_s
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        self._open: set[socket.socket] = set()
        self._is_closed = False

    def fetch(self, url: str, file: AdapterFile, output: BinaryIO, cancelled: Callable[[], bool]) -> None:
        """Writes the file's bytes to `output`, which is right only if this returns.

        Raises DirectReadError, and OSError if `output` does.
        """
        with (
            self._response(url, self._most_s(file.size_bytes)) as response,
            HashThread() as hashing,
        ):
            num_bytes = 0
            while num_bytes < file.size_bytes:
                if cancelled():
                    raise DirectReadError("this server is stopping")
                chunk = hashing.free_chunk()
                num_read = _network(response.readinto, chunk[: file.size_bytes - num_bytes])
                if not num_read:
                    break
                hashing.add(chunk, num_read)
                output.write(chunk[:num_read])
                num_bytes += num_read
            if num_bytes != file.size_bytes or _network(response.read, 1):
                raise DirectReadError(
                    f"{file.path} is not {file.size_bytes} bytes long, or they come too slowly"
                )
            if hashing.hexdigest() != file.sha256:
                raise DirectReadError(f"{file.path} has another sha256")

    def close(self) -> None:
        """Ends the reads that run."""
        with self._lock:
            self._is_closed = True
            for connected in self._open:
                _end(connected)

    @contextlib.contextmanager
    def _response(self, url: str, most_s: float) -> Iterator[http.client.HTTPResponse]:
        parts = _network(urlsplit, url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise DirectReadError("the URL is neither http nor https")
        connection = self._connection(parts.scheme, parts.hostname, _network(lambda: parts.port))
        try:
            _network(connection.connect)
            with self._closable(connection.sock, most_s):
                _network(connection.request, "GET", f"{parts.path}?{parts.query}")
                response = _network(connection.getresponse)
                if response.status != http.client.OK:
                    raise DirectReadError(f"status {response.status}")
                yield response
        finally:
            connection.close()

    def _connection(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        with self._lock:
            if self._tls is None:
                ca_file = None if self._ca_file is None else str(self._ca_file)
                self._tls = _network(lambda: ssl.create_default_context(cafile=ca_file))
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=self._tls)

    @contextlib.contextmanager
    def _closable(self, connected: socket.socket, most_s: float) -> Iterator[None]:
        # A trickle would meet the socket's own timeout, which is of each read, for ever.
        timer = threading.Timer(most_s, _end, (connected,))
        timer.daemon = True
        with self._lock:
            if self._is_closed:
                raise DirectReadError("this server is stopping")
            self._open.add(connected)
            timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._open.discard(connected)


def _end(connected: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _network(call: Callable[..., T], *arguments: object) -> T:
    try:
        return call(*arguments)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise DirectReadError(f"{type(error).__name__}: {error}") from error
