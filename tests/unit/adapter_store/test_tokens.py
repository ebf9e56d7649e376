"""Tokens without a server: what is kept of a secret, and when it is good."""

import pytest
from sqlalchemy import create_engine, select

from services.adapter_store.domain.actor import Actor
from services.adapter_store.domain.token import hash_of, make_secret
from services.adapter_store.metadata.engine import normalised
from services.adapter_store.metadata.tables import metadata
from services.common.caller import Caller, Role
from services.common.errors import Reason, ServiceError

OPERATOR = Actor("op", "CreateToken")


def refused(call, *arguments):
    with pytest.raises(ServiceError) as caught:
        call(*arguments)
    return caught.value


def test_a_secret_has_256_random_bits_and_is_kept_as_its_hash(store, database_url):
    asked = []

    def random_bytes(count: int) -> bytes:
        asked.append(count)
        return bytes(range(count))

    token_id, secret = make_secret(random_bytes)
    assert (asked, secret[:17]) == ([6, 32], f"mlt_{token_id}_")
    secret, token = store.tokens.create("acme", Role.READER, "CI", 0, OPERATOR)
    engine = create_engine(normalised(database_url))
    with engine.connect() as connection:
        rows = [repr(row) for table in metadata.sorted_tables for row in connection.execute(select(table))]
    engine.dispose()
    assert any(hash_of(secret) in row for row in rows)
    assert not any(secret.split("_", 2)[2] in row or secret in row for row in rows)
    assert token.id in secret


def test_a_good_token_says_who_calls(store):
    secret, token = store.tokens.create("acme", Role.PUBLISHER, "", 0, OPERATOR)
    assert store.tokens.authenticate(secret) == token
    assert token.caller() == Caller(token.id, "acme", Role.PUBLISHER)
    assert (token.created_by, token.expire_time) == ("op", None)


def test_unknown_expired_and_revoked_tokens_are_refused(store):
    secret, token = store.tokens.create("acme", Role.READER, "", 0, OPERATOR)
    for wrong in ("", "mlt", secret[:-1], secret + "A", secret.upper(), "\ud800"):
        assert "not known" in refused(store.tokens.authenticate, wrong).message
    revoked = store.tokens.revoke(token.id, OPERATOR)
    assert store.tokens.revoke(token.id, OPERATOR) == revoked
    error = refused(store.tokens.authenticate, secret)
    assert (error.code, error.reason) == ("UNAUTHENTICATED", "BAD_TOKEN")
    assert "revoked" in error.message
    # The test's clock goes on by a second each time it is read.
    secret, _ = store.tokens.create("acme", Role.READER, "", 2, OPERATOR)
    store.tokens.authenticate(secret)
    assert "expired" in refused(store.tokens.authenticate, secret).message
    assert refused(store.tokens.revoke, "nobody").reason == "TOKEN_NOT_FOUND"


@pytest.mark.parametrize(
    ("description", "ttl_s", "field"),
    [("x" * 257, 0, "description"), ("a\x00b", 0, "description"), ("", -1, "ttl_s"), ("", 1 << 62, "ttl_s")],
)
def test_bad_fields(store, description, ttl_s, field):
    error = refused(store.tokens.create, "acme", Role.READER, description, ttl_s)
    assert (error.reason, error.field) == ("INVALID_FIELD", field)


def test_the_first_token_is_made_while_no_operator_has_a_good_one(store):
    store.tokens.create("*", Role.READER, "a service's", 0)
    store.tokens.create("acme", Role.ADMIN, "a tenant's", 0)
    _, first = store.tokens.create_first("", 0)
    assert (first.tenant, first.role) == ("*", Role.ADMIN)
    assert refused(store.tokens.create_first, "", 0).reason == "ROLE_TOO_LOW"
    store.tokens.revoke(first.id)
    store.tokens.create_first("", 1)
    store.tokens.create_first("the one before has expired", 0)


def test_lists_and_log(store):
    made = [store.tokens.create(tenant, Role.READER, "", 0, OPERATOR)[1] for tenant in ("acme", "beta", "*")]
    store.tokens.revoke(made[0].id, Actor("op", "RevokeToken"))
    assert [token.id for token in store.tokens.list("beta", 0, "").rows] == [made[1].id]
    page = store.tokens.list("*", 2, "")
    rest = store.tokens.list("*", 2, page.next_page_token)
    assert {token.id for token in (*page.rows, *rest.rows)} == {token.id for token in made}
    entries = store.audit_log.list("acme", 2, "").rows
    assert [(entry.actor, entry.action, entry.resource) for entry in entries] == [
        ("op", "RevokeToken", f"tokens/{made[0].id}"),
        ("op", "CreateToken", f"tokens/{made[0].id}"),
    ]
    first, *_ = store.audit_log.list("*", 1, "").rows
    assert first == entries[0]
    assert made[2].id not in {entry.resource for entry in store.audit_log.list("beta", 0, "").rows}


def test_no_token_has_a_name_that_no_database_takes(store):
    assert store.tokens.tenant_of("a\0b") is None
    with pytest.raises(ServiceError) as caught:
        store.tokens.revoke("a\0b")
    assert caught.value.reason is Reason.TOKEN_NOT_FOUND
