"""Callers by their tokens, as the store knows them: remembered for a short time, longer while it is silent.

Pure state but for one question to the store. A secret is kept as its hash alone, and never logged.
"""

import asyncio
import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from services.common.caller import Caller
from services.common.errors import Code, ServiceError
from services.common.gate import bad_token

FRESH_S = 5.0
# So long a token that was good stays so while the store does not answer.
GRACE_S = 600.0
MAX_CALLERS = 10_000
# So many strangers the store is asked about at once; further ones wait for these.
MAX_STRANGERS = 8


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Authenticate(Protocol):
    """Asks the store; where the answer `is_known`, not for longer than that is of use."""

    async def __call__(self, secret: str, *, is_known: bool) -> Caller:
        """Raises BAD_TOKEN, or UNAVAILABLE if there is no answer."""
        ...


@dataclass(slots=True)
class _Known:
    caller: Caller
    checked_s: float


class CallerCache:
    """Asks the store by `authenticate`, which raises BAD_TOKEN, or UNAVAILABLE if there is no answer.

    A token that was revoked is forgotten at once where the store's changes are heard (`revoke`), and
    otherwise after `FRESH_S`.
    """

    def __init__(
        self,
        authenticate: Authenticate,
        *,
        max_callers: int = MAX_CALLERS,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._authenticate = authenticate
        self._max_callers = max_callers
        self._clock = clock
        self._now = now
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._hashes: dict[str, bytes] = {}
        self._num_revocations = 0
        # Else whoever makes tokens up keeps the store, which counts no services' calls, from everybody.
        self._strangers = asyncio.Semaphore(MAX_STRANGERS)

    async def caller(self, secret: str) -> Caller:
        """Whose `secret` is. Raises BAD_TOKEN, or STORE_UNAVAILABLE if nobody can tell."""
        key = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
        known = self._known.get(key)
        if known is not None and self._is_within(known, FRESH_S):
            self._known.move_to_end(key)
            return self._unexpired(known.caller)
        num_revocations = self._num_revocations
        is_known = known is not None and self._is_within(known, GRACE_S)
        try:
            async with contextlib.nullcontext() if is_known else self._strangers:
                caller = await self._authenticate(secret, is_known=is_known)
        except ServiceError as error:
            return self._without_answer(key, error)
        # A revocation that came meanwhile may be of this token: the answer serves this call alone.
        if num_revocations == self._num_revocations:
            self._remember(key, caller)
        return caller

    def revoke(self, token_id: str) -> None:
        """Forgets the token, whose next use asks the store."""
        self._num_revocations += 1
        key = self._hashes.pop(token_id, None)
        if key is not None:
            del self._known[key]

    def change(self, kind: str, name: str) -> None:
        """Takes one of the store's changes, of a kind as the wire names it."""
        if kind == "TOKEN_REVOKED":
            self.revoke(name)

    def forget_all(self) -> None:
        """Forgets every token: revocations may have been missed."""
        self._num_revocations += 1
        self._known.clear()
        self._hashes.clear()

    def _without_answer(self, key: bytes, error: ServiceError) -> Caller:
        known = self._known.get(key)
        if error.code is not Code.UNAVAILABLE:
            if known is not None:
                self.revoke(known.caller.name)
            raise error
        if known is None or not self._is_within(known, GRACE_S):
            raise error
        return self._unexpired(known.caller)

    def _is_within(self, known: _Known, age_s: float) -> bool:
        return self._clock() - known.checked_s < age_s

    def _unexpired(self, caller: Caller) -> Caller:
        if caller.expire_time is not None and caller.expire_time <= self._now():
            raise bad_token(f"{caller.name} expired at {caller.expire_time:%Y-%m-%d %H:%M} UTC")
        return caller

    def _remember(self, key: bytes, caller: Caller) -> None:
        self._known[key] = _Known(caller, self._clock())
        self._known.move_to_end(key)
        self._hashes[caller.name] = key
        if len(self._known) > self._max_callers:
            _, dropped = self._known.popitem(last=False)
            self._hashes.pop(dropped.caller.name, None)

    def check_integrity(self) -> None:
        """Raises AssertionError unless both indexes hold the same tokens, within the bound."""
        assert len(self._known) <= self._max_callers, f"{len(self._known)} callers"
        assert self._hashes == {known.caller.name: key for key, known in self._known.items()}, (
            "indexes differ"
        )

    def __repr__(self) -> str:
        return f"CallerCache(callers={len(self._known)})"
