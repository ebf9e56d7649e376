"""Hands out, shows, revokes and checks tokens."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from services.adapter_store.domain.actor import STORE, Actor
from services.adapter_store.domain.change import ChangeKind
from services.adapter_store.domain.fields import check_range, check_text, quoted
from services.adapter_store.domain.listing import Key, Listing, list_page
from services.adapter_store.domain.token import (
    MAX_DESCRIPTION_CHARS,
    MAX_TTL_S,
    Token,
    hash_of,
    make_secret,
)
from services.adapter_store.metadata import Database, UnitOfWork
from services.common.caller import EVERY_TENANT, Role
from services.common.errors import Code, Reason, ServiceError, not_found
from services.common.gate import bad_token


class Tokens:
    """Tokens, by id or secret. `now` is the clock."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    def create(
        self, tenant: str, role: Role, description: str, ttl_s: int, actor: Actor = STORE
    ) -> tuple[str, Token]:
        """A new token and its secret, which nothing can show again. Raises INVALID_FIELD."""
        with self._database.write(actor) as uow:
            created = self._insert(uow, tenant, role, description, ttl_s, actor)
            uow.commit()
        return created

    def create_first(self, description: str, ttl_s: int, actor: Actor = STORE) -> tuple[str, Token]:
        """The token of the first operator. Raises ROLE_TOO_LOW while another operator's is good."""
        with self._database.write(actor) as uow:
            if uow.tokens.has_operator(self._now()):
                raise ServiceError(
                    Code.PERMISSION_DENIED,
                    Reason.ROLE_TOO_LOW,
                    "there is an operator's token already: use it (--token-file) to make others "
                    "through the store",
                )
            created = self._insert(uow, EVERY_TENANT, Role.ADMIN, description, ttl_s, actor)
            uow.commit()
        return created

    def _insert(
        self, uow: UnitOfWork, tenant: str, role: Role, description: str, ttl_s: int, actor: Actor
    ) -> tuple[str, Token]:
        check_text(description, "description", max_chars=MAX_DESCRIPTION_CHARS)
        check_range(ttl_s, "ttl_s", low=0, high=MAX_TTL_S)
        now = self._now()
        token_id, secret = make_secret()
        token = Token(
            id=token_id,
            tenant=tenant,
            role=role,
            description=description,
            create_time=now,
            expire_time=now + timedelta(seconds=ttl_s) if ttl_s else None,
            revoke_time=None,
            created_by=actor.name,
        )
        uow.tokens.insert(token, hash_of(secret))
        uow.audit.add(token.home, f"tokens/{token.id}", f"{role} in tenants/{tenant}")
        return secret, token

    def list(self, tenant: str, page_size: int, page_token: str) -> Listing[Token]:
        """Tokens of one tenant by id; of `*`, all there are."""

        def fetch(after: Key | None, limit: int) -> Sequence[Token]:
            with self._database.read() as uow:
                return uow.tokens.page(
                    None if tenant == EVERY_TENANT else tenant,
                    None if after is None else (str(after[0]), str(after[1])),
                    limit,
                )

        return list_page(
            f"tokens/{tenant}",
            page_size,
            page_token,
            ("", ""),
            fetch,
            lambda token: (token.tenant, token.id),
        )

    def tenant_of(self, token_id: str) -> str | None:
        """The tenant that the token is of; None if there is none of this id."""
        with self._database.read() as uow:
            token = uow.tokens.get(token_id)
        return None if token is None else token.tenant

    def revoke(self, token_id: str, actor: Actor = STORE) -> Token:
        """Makes the token no good from now on; no error if it was revoked before. Raises TOKEN_NOT_FOUND."""
        with self._database.write(actor) as uow:
            changed = uow.tokens.revoke(token_id, self._now())
            token = uow.tokens.get(token_id)
            if token is None:
                raise no_token(token_id)
            if changed:
                uow.audit.add(token.home, f"tokens/{token.id}", f"{token.role} in tenants/{token.tenant}")
                uow.changes.add(ChangeKind.TOKEN_REVOKED, token.home, token.id)
            uow.commit()
        return token

    def authenticate(self, secret: str) -> Token:
        """Whose token this is. Raises BAD_TOKEN if it is unknown, expired or revoked.

        The store is asked each time, so that a revocation holds from the next call on, at every replica.
        """
        with self._database.read() as uow:
            token = uow.tokens.with_hash(hash_of(secret))
        if token is None:
            raise bad_token("it is not known here")
        refusal = token.refusal(self._now())
        if refusal is not None:
            raise refusal
        return token


def no_token(token_id: str) -> ServiceError:
    """There is no token of this id, or none that the caller may know of."""
    return not_found(
        Reason.TOKEN_NOT_FOUND,
        f"no token {quoted(token_id)}: ListTokens (`multilora token list`) shows those there are",
    )
