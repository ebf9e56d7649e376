"""A real S3 server on a free loopback port: rclone over a temporary directory, which outlives a kill.

Its traps: a missing key answers `get` with InvalidResponseError (`stat` is right), user metadata and
open multipart uploads are lost with the process, ETags mean nothing, a range is answered with 200, and a
multipart upload's parts must be numbered without gaps, never replaced by others, and completed all.
"""

import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from tests.certificates import KeyPair

if TYPE_CHECKING:
    from minio import Minio

ACCESS_KEY = "access"
SECRET_KEY = "secret-key"
BUCKET = "adapters"
READY_WITHIN_S = 30.0


class S3Server:
    """`rclone serve s3` over `root / "data"`, with one bucket. Always the same port; with `tls`, https."""

    def __init__(self, root: Path, tls: KeyPair | None = None) -> None:
        self.root = root
        self._tls = tls
        (root / "data" / BUCKET).mkdir(parents=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    @property
    def endpoint(self) -> str:
        """The URL of the server."""
        return f"{'http' if self._tls is None else 'https'}://{self.address}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process that runs."""
        assert self._process is not None, "the server is stopped"
        return self._process

    @property
    def environ(self) -> dict[str, str]:
        """Variables that give a store the credentials."""
        return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}

    def url(self, prefix: str) -> str:
        """What --blob-url takes."""
        return f"s3://{BUCKET}/{prefix}?endpoint={self.endpoint}"

    def flags(self, prefix: str) -> list[str]:
        """Flags of a store whose blobs lie below `prefix`."""
        credentials = self.root / "credentials"
        credentials.write_text(
            f"[default]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
        )
        return ["--blob-url", self.url(prefix), "--blob-credentials-file", str(credentials)]

    def client(self, access_key: str = ACCESS_KEY, secret_key: str = SECRET_KEY) -> "Minio":
        """The client that everybody uses."""
        from minio import Minio

        return Minio(
            self.address, access_key=access_key, secret_key=secret_key, secure=False, region="us-east-1"
        )

    def object_file(self, key: str) -> Path:
        """The file in which an object of the bucket lies, to damage it behind the server's back."""
        return self.root / "data" / BUCKET / key

    def start(self) -> None:
        """Starts, and waits until it listens."""
        rclone = Path(sys.executable).with_name("rclone")
        command = [str(rclone) if rclone.exists() else shutil.which("rclone") or "rclone"]
        command += ["serve", "s3", "--addr", self.address, "--auth-key", f"{ACCESS_KEY},{SECRET_KEY}"]
        command += ["--vfs-cache-mode", "writes", "--cache-dir", str(self.root / "cache")]
        command += ["--config", "/dev/null", "--vfs-write-back", "0s"]
        if self._tls is not None:
            command += ["--cert", str(self._tls.cert), "--key", str(self._tls.key)]
        command += [str(self.root / "data")]
        with (self.root / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no S3 server:\n{(self.root / 'log').read_text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL; what was acknowledged stays."""
        self.process.kill()
        self.process.wait()
        self._process = None

    def stop(self) -> None:
        """SIGTERM, if it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for all tests; whoever kills it starts it again."""
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3_prefix() -> str:
    """A prefix in the bucket that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def s3_url(s3_server: S3Server, s3_prefix: str) -> str:
    """A --blob-url of this test alone."""
    return s3_server.url(s3_prefix)


@pytest.fixture
def own_s3_server(tmp_path: Path) -> Iterator[S3Server]:
    """A server of this test alone, to be killed while others run on theirs."""
    with S3Server(tmp_path / "s3") as server:
        yield server
