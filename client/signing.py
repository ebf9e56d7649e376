"""Signs a version's manifest with an Ed25519 key: see docs/signatures.md.

Knows no RPC. Needs `cryptography`, which is imported only here and only when something is signed.
"""

import json
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.errors import MultiloraError, invalid
from client.registry import Signature, VersionFile

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FORMAT = "multilora-manifest-1"
CONFIG_PATH = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and the id under which the tenant trusts its public half."""

    key_id: str
    private: "Ed25519PrivateKey"

    def sign(self, manifest: bytes) -> Signature:
        """The signature over `manifest`."""
        return Signature(self.key_id, self.private.sign(manifest))

    @property
    def public_key(self) -> bytes:
        """The 32 bytes that a tenant trusts."""
        return self.private.public_key().public_bytes_raw()


def manifest(adapter: str, base_model: str, base_model_digest: str, files: Iterable[VersionFile]) -> bytes:
    """What is signed: canonical JSON over these facts. `adapter` is the full resource name."""
    rows = sorted([file.path, file.size_bytes, file.sha256] for file in files)
    content = {
        "adapter": adapter,
        "adapter_config_sha256": next((sha256 for path, _, sha256 in rows if path == CONFIG_PATH), ""),
        "base_model": base_model,
        "base_model_digest": base_model_digest,
        "files": rows,
        "format": FORMAT,
    }
    return json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode("ascii")


def generate_key(path: Path) -> bytes:
    """Writes a new private key to `path` (PEM, readable by its owner alone); returns the public key.

    Raises MultiloraError, also if `path` is there already.
    """
    ed25519, serialization = _cryptography()
    private = ed25519.Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)
    except FileExistsError:
        raise invalid("out", f"{path} is there already, and a key is never overwritten") from None
    except OSError as error:
        raise invalid("out", f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
    return bytes(private.public_key().public_bytes_raw())


def read_key(path: Path, key_id: str) -> SigningKey:
    """The private key in `path`, a PEM without a password. Raises MultiloraError."""
    ed25519, serialization = _cryptography()
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise invalid("sign_key", f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError):
        raise invalid("sign_key", f"{path} is no PEM private key without a password") from None
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise invalid("sign_key", f"{path} is no Ed25519 key: make one with `multilora key generate`")
    return SigningKey(key_id, private)


def read_public_key(text: str) -> bytes:
    """A public key from the 64 hex digits that `multilora key generate` prints. Raises MultiloraError."""
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise invalid("public_key", f"{text[:80]!r} is no public key: give 64 hex digits")
    return key


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise MultiloraError(
            "FAILED_PRECONDITION",
            "this install cannot sign: pip install 'multilora[signing]'",
        ) from None
    return ed25519, serialization
