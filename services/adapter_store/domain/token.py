"""A token: what opens a tenant to its holder. Its secret is shown once; the store keeps a hash.

A secret is `mlt_ID_RANDOM`, RANDOM being 32 random bytes in base64. It is found by its sha256, so that no
comparison of secrets takes a time that tells anything.
"""

import base64
import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from services.common.caller import EVERY_TENANT, Caller, Role
from services.common.errors import ServiceError
from services.common.gate import bad_token

MAX_DESCRIPTION_CHARS = 256
MAX_TTL_S = 100 * 366 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Token:
    """One token, without its secret. `tenant` is `*` for one that is good in every tenant."""

    id: str
    tenant: str
    role: Role
    description: str
    create_time: datetime
    expire_time: datetime | None
    revoke_time: datetime | None
    created_by: str

    @property
    def home(self) -> str:
        """The tenant in whose audit log and changes it shows; none for those of operators."""
        return "" if self.tenant == EVERY_TENANT else self.tenant

    def refusal(self, now: datetime) -> ServiceError | None:
        """Why the token is no good (any more)."""
        if self.revoke_time is not None:
            return bad_token(f"{self.id} was revoked at {self.revoke_time:%Y-%m-%d %H:%M} UTC")
        if self.expire_time is not None and self.expire_time <= now:
            return bad_token(f"{self.id} expired at {self.expire_time:%Y-%m-%d %H:%M} UTC")
        return None

    def caller(self) -> Caller:
        """What a call with this token may do."""
        return Caller(self.id, self.tenant, self.role, self.expire_time)


def make_secret(random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> tuple[str, str]:
    """A new token's id and secret."""
    token_id = random_bytes(6).hex()
    secret = base64.urlsafe_b64encode(random_bytes(32)).decode().rstrip("=")
    return token_id, f"mlt_{token_id}_{secret}"


def hash_of(secret: str) -> str:
    """What the store keeps of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
