"""Rows of tokens. No secret is in them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, or_, select, update

from services.adapter_store.domain.token import Token
from services.adapter_store.metadata.storable import is_storable
from services.adapter_store.metadata.tables import tokens
from services.adapter_store.metadata.timestamps import from_us, to_us
from services.common.caller import EVERY_TENANT, Role


class TokenRows:
    """Tokens by id, and by the hash of their secret."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, token: Token, secret_hash: str) -> None:
        """Adds a token."""
        self._connection.execute(
            insert(tokens).values(
                id=token.id,
                tenant=token.tenant,
                role=token.role.value,
                secret_hash=secret_hash,
                description=token.description,
                create_time_us=to_us(token.create_time),
                expire_time_us=None if token.expire_time is None else to_us(token.expire_time),
                created_by=token.created_by,
            )
        )

    def get(self, token_id: str) -> Token | None:
        """The token of this id."""
        return self._one(select(tokens).where(tokens.c.id == token_id)) if is_storable(token_id) else None

    def with_hash(self, secret_hash: str) -> Token | None:
        """The token whose secret has this hash."""
        return self._one(select(tokens).where(tokens.c.secret_hash == secret_hash))

    def page(self, tenant: str | None, after: tuple[str, str] | None, limit: int) -> Sequence[Token]:
        """Up to `limit` tokens by tenant and id, of one tenant or of all."""
        query = select(tokens).order_by(tokens.c.tenant, tokens.c.id).limit(limit)
        if tenant is not None:
            query = query.where(tokens.c.tenant == tenant)
        if after is not None:
            at_tenant = (tokens.c.tenant == after[0]) & (tokens.c.id > after[1])
            query = query.where(or_(tokens.c.tenant > after[0], at_tenant))
        return [_token(row) for row in self._connection.execute(query)]

    def drop_ended(self, before: datetime) -> int:
        """Forgets tokens that expired or were revoked before then; returns how many."""
        before_us = to_us(before)
        query = delete(tokens).where(
            or_(tokens.c.expire_time_us < before_us, tokens.c.revoke_time_us < before_us)
        )
        return self._connection.execute(query).rowcount

    def revoke(self, token_id: str, now: datetime) -> bool:
        """Makes the token no good from now on; says whether it was not revoked before."""
        if not is_storable(token_id):
            return False
        query = (
            update(tokens)
            .where(tokens.c.id == token_id, tokens.c.revoke_time_us.is_(None))
            .values(revoke_time_us=to_us(now))
        )
        return self._connection.execute(query).rowcount == 1

    def has_operator(self, now: datetime) -> bool:
        """Whether an ADMIN's token is good in every tenant now."""
        query = select(tokens.c.id).where(
            tokens.c.tenant == EVERY_TENANT,
            tokens.c.role == Role.ADMIN.value,
            tokens.c.revoke_time_us.is_(None),
            or_(tokens.c.expire_time_us.is_(None), tokens.c.expire_time_us > to_us(now)),
        )
        return self._connection.execute(query.limit(1)).first() is not None

    def _one(self, query: Select[Any]) -> Token | None:
        row = self._connection.execute(query).first()
        return None if row is None else _token(row)


def _token(row: Row[Any]) -> Token:
    return Token(
        id=row.id,
        tenant=row.tenant,
        role=Role(row.role),
        description=row.description,
        create_time=from_us(row.create_time_us),
        expire_time=None if row.expire_time_us is None else from_us(row.expire_time_us),
        revoke_time=None if row.revoke_time_us is None else from_us(row.revoke_time_us),
        created_by=row.created_by,
    )
