"""Ed25519 signatures over a version's manifest: which bytes, for which adapter, on which base model.

Pure: no I/O, no wire, no rows. docs/signatures.md shows the same by hand. A manifest is canonical JSON, so
that whoever knows the same facts has the same bytes to sign or to verify.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.common.errors import Code, Reason, ServiceError

FORMAT = "multilora-manifest-1"
CONFIG_PATH = "adapter_config.json"
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
_SHOWN_KEYS = 8


@dataclass(frozen=True, slots=True)
class Signature:
    """Which of the tenant's trusted keys signed, and Ed25519's 64 bytes."""

    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is signed. `adapter` is the full resource name, `files` are (path, size in bytes, sha256)."""

    adapter: str
    base_model: str
    base_model_digest: str
    files: tuple[tuple[str, int, str], ...]

    def to_bytes(self) -> bytes:
        """The signed bytes: JSON in ASCII, keys and files sorted, no white space."""
        configs = [sha256 for path, _, sha256 in self.files if path == CONFIG_PATH]
        content = {
            "adapter": self.adapter,
            "adapter_config_sha256": configs[0] if configs else "",
            "base_model": self.base_model,
            "base_model_digest": self.base_model_digest,
            "files": sorted([path, size_bytes, sha256] for path, size_bytes, sha256 in self.files),
            "format": FORMAT,
        }
        return json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":")).encode("ascii")


def check_signature(
    version_name: str,
    manifest: Manifest,
    signature: Signature | None,
    trusted_keys: Mapping[str, bytes],
    *,
    required: bool,
) -> None:
    """Raises BAD_SIGNATURE unless one of `trusted_keys` (id to public key) signed `manifest`.

    No signature at all is refused only if one is `required`; a bad one always.
    """
    if signature is None:
        if required:
            raise bad_signature(
                version_name, "is not signed, and its tenant asks for signatures", trusted_keys
            )
        return
    public_key = trusted_keys.get(signature.key_id)
    if public_key is None:
        raise bad_signature(
            version_name, f"is signed with key {signature.key_id!r}, which is not trusted", trusted_keys
        )
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature.signature, manifest.to_bytes())
    except (InvalidSignature, ValueError) as error:
        raise bad_signature(
            version_name,
            f"does not have the files, name or base model that key {signature.key_id!r} signed",
            trusted_keys,
        ) from error


def bad_signature(version_name: str, what: str, trusted_keys: Iterable[str]) -> ServiceError:
    """BAD_SIGNATURE: says what is wrong and which keys would do."""
    ids = sorted(trusted_keys)
    shown = ", ".join(ids[:_SHOWN_KEYS]) + (" ..." if len(ids) > _SHOWN_KEYS else "")
    return ServiceError(
        Code.FAILED_PRECONDITION,
        Reason.BAD_SIGNATURE,
        f"{version_name} {what}: push it again, signed with one of the trusted keys ({shown or 'none'})",
        field="signature",
    )
