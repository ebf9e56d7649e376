"""gRPC server credentials from PEM files, read again for each new connection once they have changed.

Must not know settings or services.
"""

import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the server's certificate chain and key are, and the CAs of its clients if they need one."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    def stamp(self) -> tuple[int, ...]:
        """Differs once a file was replaced. Raises OSError."""
        return tuple(path.stat().st_mtime_ns for path in (self.cert, self.key, self.client_ca) if path)

    def read(self) -> grpc.ServerCertificateConfiguration:
        """What gRPC needs of them now. Raises OSError if they cannot be read or do not belong together."""
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(self.cert, self.key)
        pair = (self.key.read_bytes(), self.cert.read_bytes())
        client_ca = None if self.client_ca is None else self.client_ca.read_bytes()
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=client_ca)


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that follow `files`. Raises OSError if one cannot be read now."""
    reader = _Reader(files)
    return grpc.dynamic_ssl_server_credentials(
        files.read(),
        reader,  # type: ignore[arg-type]  # the stubs do not know that None means no change
        require_client_authentication=files.client_ca is not None,
    )


class _Reader:
    """Gives gRPC a new configuration when a file has changed, and None while none has."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamp = files.stamp()

    def __call__(self) -> grpc.ServerCertificateConfiguration | None:
        try:
            stamp = self._files.stamp()
            if stamp == self._stamp:
                return None
            configuration = self._files.read()
        except OSError as error:
            # The certificate that was good goes on: a renewal may be half-way.
            log.warning("TLS files cannot be read, going on with those before: %s", error)
            return None
        self._stamp = stamp
        log.info("TLS files were read again")
        return configuration
