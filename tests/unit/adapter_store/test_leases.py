from datetime import UTC, datetime, timedelta

import pytest

from services.adapter_store.garbage.leases import MAX_KEYS, Leases
from services.adapter_store.metadata import Database
from services.common.errors import Reason, ServiceError

KEYS = [f"{number:064x}" for number in range(3)]


START = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def database(database_url):
    """Its clock stands still."""
    database = Database(database_url, lambda connection: START)
    yield database
    database.close()


@pytest.fixture
def leases(database):
    return Leases(database)


def held(database, after_s=0.0):
    """Which keys are kept `after_s` seconds after the clock's start."""
    with database.read() as uow:
        return [key for key in KEYS if uow.leases.holds(key, START + timedelta(seconds=after_s))]


def field_of(call, *arguments):
    with pytest.raises(ServiceError) as caught:
        call(*arguments)
    assert caught.value.reason is Reason.INVALID_FIELD
    return caught.value.field


def test_a_lease_keeps_its_keys_until_it_expires(leases, database):
    lease = leases.acquire("serve-1", "host a", KEYS[:2], 30)
    assert (lease.id, lease.holder, lease.num_keys) == ("serve-1", "host a", 2)
    assert held(database) == KEYS[:2]
    assert held(database, 29) == KEYS[:2]
    assert held(database, 30) == []


def test_renewing_replaces_the_keys_and_moves_the_end(leases, database):
    leases.acquire("serve-1", "host a", KEYS[:2], 30)
    leases.acquire("serve-1", "host a", KEYS[1:], 60)
    assert held(database, 59) == KEYS[1:]


def test_two_leases_keep_a_key_until_both_have_let_go(leases, database):
    leases.acquire("serve-1", "", KEYS[:1], 30)
    leases.acquire("serve-2", "", KEYS[:1], 30)
    leases.release("serve-1")
    assert held(database) == KEYS[:1]
    leases.release("serve-2")
    leases.release("serve-2")
    assert held(database) == []


def test_a_key_twice_counts_once_and_the_default_ttl_is_a_minute(leases, database):
    assert leases.acquire("serve-1", "", [KEYS[0], KEYS[0]], 0).num_keys == 1
    assert held(database, 59) == KEYS[:1]
    assert held(database, 61) == []


def test_fields_out_of_range_are_refused_by_name(leases):
    assert field_of(leases.acquire, "", "", KEYS, 30) == "lease_id"
    assert field_of(leases.acquire, "x" * 129, "", KEYS, 30) == "lease_id"
    assert field_of(leases.acquire, "x", "y" * 257, KEYS, 30) == "holder"
    assert field_of(leases.acquire, "x", "", KEYS, 4) == "ttl_s"
    assert field_of(leases.acquire, "x", "", KEYS, 3601) == "ttl_s"
    assert field_of(leases.acquire, "x", "", ["g" * 64], 30) == "keys[0]"
    assert field_of(leases.acquire, "x", "", [KEYS[0]] * (MAX_KEYS + 1), 30) == "keys"
    assert field_of(leases.release, "") == "lease_id"


def test_as_many_keys_as_are_allowed_are_renewed_and_dropped(leases, database):
    many = [f"{number:064x}" for number in range(MAX_KEYS)]
    assert leases.acquire("serve-1", "", many, 3600).num_keys == MAX_KEYS
    assert leases.acquire("serve-1", "", many[:1], 3600).num_keys == 1
    assert held(database) == KEYS[:1]


def test_expired_leases_are_dropped_with_their_keys(leases, database):
    leases.acquire("serve-1", "", KEYS, 30)
    leases.acquire("serve-2", "", KEYS, 300)
    with database.write() as uow:
        assert uow.leases.drop_expired(START + timedelta(seconds=60)) == 1
        uow.commit()
    assert held(database, 60) == KEYS
