"""Whose signatures count for each tenant's adapters: what the store says, or keys pinned in a file.

Must not know adapters or the wire.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from services.common.manifest_signature import PUBLIC_KEY_BYTES

EVERY_TENANT = "*"
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class SigningRules:
    """One tenant's trusted keys, by id, and whether it takes nothing that none of them signed."""

    trusted_keys: dict[str, bytes] = field(default_factory=dict)
    required: bool = False


class RulesSource(Protocol):
    """Knows the rules of every tenant."""

    async def rules(self, tenant: str) -> SigningRules:
        """The tenant's rules now. Raises STORE_UNAVAILABLE if nobody can tell: then nothing is served."""
        ...


class PinnedKeys:
    """Keys of a file, and no others: each version must be signed by one of them, whatever the store says."""

    def __init__(self, keys: dict[str, dict[str, bytes]]) -> None:
        self._keys = keys

    async def rules(self, tenant: str) -> SigningRules:
        """See RulesSource. A tenant without a line of its own has the keys of `*`."""
        return SigningRules(self._keys.get(tenant, self._keys.get(EVERY_TENANT, {})), required=True)


def read_trusted_keys(path: Path) -> PinnedKeys:
    """Lines of `TENANT KEY_ID PUBLIC_KEY` (64 hex digits); `#` begins a comment, TENANT `*` is any other.

    Raises OSError, or ValueError naming the line that is wrong.
    """
    keys: dict[str, dict[str, bytes]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 3:
            raise _bad_line(path, number, "give TENANT KEY_ID PUBLIC_KEY")
        tenant, key_id, public_key = words
        if (tenant != EVERY_TENANT and not _ID.fullmatch(tenant)) or not _ID.fullmatch(key_id):
            raise _bad_line(path, number, "TENANT (or *) and KEY_ID are at most 63 of a-z 0-9 . _ -")
        if not re.fullmatch(rf"[0-9a-f]{{{2 * PUBLIC_KEY_BYTES}}}", public_key):
            raise _bad_line(path, number, "PUBLIC_KEY is 64 hex digits, as `multilora key generate` prints")
        if key_id in keys.setdefault(tenant, {}):
            raise _bad_line(path, number, f"{tenant} has a key {key_id} already")
        keys[tenant][key_id] = bytes.fromhex(public_key)
    if not keys:
        raise ValueError(f"--trusted-keys-file: {path} has no key, so that nothing could be served")
    return PinnedKeys(keys)


def _bad_line(path: Path, number: int, what: str) -> ValueError:
    return ValueError(f"--trusted-keys-file: {path}, line {number}: {what}")
