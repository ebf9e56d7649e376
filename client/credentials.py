"""How a client shows who it is and knows whom it speaks to: a token, a CA, a certificate of its own.

Knows files and addresses, no RPC. A token is never sent in plain text to another machine unless told to.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from client.errors import invalid
from services.common.authorized_channel import Metadata, bearer, is_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What to connect with; nothing by default.

    `ca_file` turns TLS on: PEM of the CAs whose servers are trusted. `cert_file` and `key_file` are for
    servers that ask clients for a certificate. `token_file` is read again for each call, so that a new token
    needs no new client.
    """

    token: str = ""
    token_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    plaintext_token: bool = False

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """TLS; None is plain text. Raises MultiloraError naming the file that is no good."""
        if (self.cert_file is None) != (self.key_file is None):
            raise invalid("cert_file", "cert_file and key_file belong together: give both or neither")
        if self.ca_file is None:
            if self.cert_file is not None:
                raise invalid("ca_file", "a certificate is shown over TLS alone: give ca_file as well")
            return None
        return grpc.ssl_channel_credentials(
            _read("ca_file", self.ca_file),
            None if self.key_file is None else _read("key_file", self.key_file),
            None if self.cert_file is None else _read("cert_file", self.cert_file),
        )

    def metadata(self, address: str) -> Callable[[], Metadata]:
        """What each call to `address` carries. Raises MultiloraError if the token must not go there."""
        if not self.token and self.token_file is None:
            return tuple
        if self.ca_file is None and not self.plaintext_token and not is_loopback(address):
            raise invalid(
                "token",
                f"{address} is another machine and the connection is plain text, which would show the token "
                "to whoever listens: give ca_file, or allow it with plaintext_token",
            )
        return lambda: bearer(self.read_token())

    def read_token(self) -> str:
        """The token now. Raises MultiloraError if it is none that can be sent."""
        token, field, what = self.token, "token", "this"
        if not token and self.token_file is not None:
            token = _read("token_file", self.token_file).decode("utf-8", "replace").strip()
            field, what = "token_file", f"what {self.token_file} holds"
        if not is_token(token):
            raise invalid(field, f"{what} is no token: give what `multilora token create` printed")
        return token


def is_loopback(address: str) -> bool:
    """Whether what is sent to `address` (HOST:PORT or a gRPC target) cannot leave this machine."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition("/")[2].removeprefix("dns:").removeprefix("ipv4:").removeprefix("ipv6:")
    host = host.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read(field: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise invalid(field, f"{path} cannot be read: {error.strerror}") from None
