"""How the adapter store is reached: its address, and what this service shows of itself there.

Must not know gRPC: `store_channel` opens what this describes.
"""

from dataclasses import dataclass
from pathlib import Path

from services.common.authorized_channel import Metadata, bearer, is_token
from services.common.server_settings import is_loopback
from services.common.settings import parse_address


@dataclass(frozen=True, slots=True)
class StoreLink:
    """Where the store is and how to reach it; by address alone: plain text, without a token.

    `check` says early, naming the flag, what would fail at each call.
    """

    address: str
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    token_file: Path | None = None
    plaintext_token: bool = False

    def check(self) -> None:
        """Raises ValueError naming the flag."""
        host, _ = parse_address(self.address)
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("--store-cert-file, --store-key-file: give both or neither")
        if self.cert_file is not None and self.ca_file is None:
            raise ValueError(
                "--store-ca-file: a certificate is shown over TLS alone: give the store's CA too"
            )
        for flag in ("ca_file", "cert_file", "key_file", "token_file"):
            path = getattr(self, flag)
            if path is not None and not path.is_file():
                raise ValueError(f"--store-{flag.replace('_', '-')}: {path} is not a file")
        if self.token_file is None:
            return
        if self.ca_file is None and not self.plaintext_token and not is_loopback(host):
            raise ValueError(
                f"--store-token-file: {self.address} is another machine and the connection is plain text, "
                "which would show the token: give --store-ca-file, or allow it with --store-plaintext-token"
            )
        self.metadata()

    def metadata(self) -> Metadata:
        """What each call carries. Raises ValueError if the file holds no token; OSError without a file."""
        if self.token_file is None:
            return ()
        token = self.token_file.read_text(errors="replace").strip()
        if not is_token(token):
            raise ValueError(f"--store-token-file: {self.token_file} holds no token")
        return bearer(token)
