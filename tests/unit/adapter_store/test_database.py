import contextlib
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from services.adapter_store.domain.names import AdapterName
from services.adapter_store.metadata import Conflict, Database, repeated
from services.adapter_store.metadata.timestamps import from_us, to_us
from services.common.errors import Code, Reason, ServiceError
from tests.adapter_files import BASE_MODEL
from tests.postgres_server import GUARDED_USER, PASSWORD

NAME = AdapterName("a", "b")
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def database(database_url):
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def with_adapter(database):
    with database.write() as uow:
        uow.base_models.insert(BASE_MODEL)
        uow.adapters.insert(NAME, BASE_MODEL.name, "", "", {}, NOW)
        uow.commit()
    return database


def execute(uow, sql):
    return uow.uploads._connection.execute(text(sql))


@pytest.mark.parametrize("damage", ["no database", "no directory"])
def test_what_cannot_be_opened_is_an_os_error(tmp_path, damage):
    path = tmp_path / ("none" if damage == "no directory" else ".") / "bad.sqlite3"
    if damage == "no database":
        path.write_bytes(b"not a database" * 100)
    with pytest.raises(OSError, match=r"bad\.sqlite3 cannot be opened"):
        Database(f"sqlite:///{path}")


def test_a_wrong_password_is_an_os_error_that_does_not_show_it(postgres):
    url = postgres.url("postgres", f"{GUARDED_USER}:hunter2")
    with pytest.raises(OSError, match="password authentication failed") as caught:
        Database(url)
    assert "hunter2" not in str(caught.value)
    assert PASSWORD not in str(caught.value)


def test_rolls_back_unless_committed(database):
    with database.write() as uow:
        uow.base_models.insert(BASE_MODEL)
    with database.read() as uow:
        assert uow.base_models.get(BASE_MODEL.name) is None
    with contextlib.suppress(KeyError), database.write() as uow:
        uow.base_models.insert(BASE_MODEL)
        raise KeyError
    with database.read() as uow:
        assert uow.base_models.get(BASE_MODEL.name) is None
    with database.write() as uow:
        uow.base_models.insert(BASE_MODEL)
        uow.commit()
    with database.read() as uow:
        assert uow.base_models.get(BASE_MODEL.name) == BASE_MODEL


def test_a_reading_unit_cannot_commit(database):
    with database.read() as uow, pytest.raises(AssertionError):
        uow.commit()


def test_sqlite_survives_a_power_cut(migrated_sqlite):
    with contextlib.closing(Database(f"sqlite:///{migrated_sqlite}")) as database, database.read() as uow:
        assert execute(uow, "PRAGMA journal_mode").scalar() == "wal"
        assert execute(uow, "PRAGMA synchronous").scalar() == 2
        assert execute(uow, "PRAGMA foreign_keys").scalar() == 1


def test_readers_go_on_while_a_writer_writes_and_see_only_what_is_committed(database):
    with database.write() as writer:
        writer.base_models.insert(BASE_MODEL)
        with database.read() as reader:
            assert reader.base_models.get(BASE_MODEL.name) is None
        writer.commit()


def test_a_reader_sees_one_snapshot(database):
    with database.read() as reader:
        assert reader.base_models.get(BASE_MODEL.name) is None
        with database.write() as writer:
            writer.base_models.insert(BASE_MODEL)
            writer.commit()
        assert reader.base_models.get(BASE_MODEL.name) is None
    with database.read() as later:
        assert later.base_models.get(BASE_MODEL.name) == BASE_MODEL


def test_writers_allocate_each_number_once_and_failed_ones_leave_no_gap(with_adapter):
    numbers = []

    def allocate():
        for attempt in range(10):
            with with_adapter.write() as uow:
                number = uow.adapters.next_version(uow.adapters.get(NAME).id)
                if attempt % 2:
                    uow.commit()
                    numbers.append(number)

    threads = [threading.Thread(target=allocate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 31))


class TestConflicts:
    def test_a_key_that_another_took_meanwhile(self, postgres, migrated_postgres):
        url = postgres.new_database(migrated_postgres)
        calls = []
        insert = "INSERT INTO leases (id, holder, expire_time_us) VALUES ('a', '', 1)"

        def insert_blindly(database):
            calls.append(1)
            with database.write() as uow:
                if execute(uow, "SELECT id FROM leases").first() is None:
                    if len(calls) == 1:
                        with database.write() as other:
                            execute(other, insert)
                            other.commit()
                    execute(uow, insert)
                    uow.commit()
                    return "inserted"
            return "was there"

        with contextlib.closing(Database(url)) as database:
            assert repeated(insert_blindly, database) == "was there"
        assert len(calls) == 2

    def test_whoever_conflicts_each_time_is_told_to_come_back(self):
        calls = []

        def conflict():
            calls.append(1)
            raise Conflict

        with pytest.raises(ServiceError) as caught:
            repeated(conflict)
        assert len(calls) > 1
        assert (caught.value.code, caught.value.reason) == (Code.UNAVAILABLE, Reason.STORE_UNAVAILABLE)
        assert caught.value.retry_after_s

    def test_a_deadlock_ends_for_one_and_passes_for_the_other(self, postgres, migrated_postgres):
        url = postgres.new_database(migrated_postgres)
        both_hold_one = threading.Barrier(2)
        outcomes = []

        def take(database, keys):
            first = True
            with database.write() as uow:
                for key in keys:
                    execute(uow, f"SELECT pg_advisory_xact_lock({key})")
                    if first:
                        both_hold_one.wait()
                        first = False

        def try_to_take(database, keys):
            try:
                take(database, keys)
                outcomes.append("passed")
            except Conflict:
                outcomes.append("conflict")

        with contextlib.closing(Database(url)) as database:
            threads = [threading.Thread(target=try_to_take, args=(database, k)) for k in ((1, 2), (2, 1))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert sorted(outcomes) == ["conflict", "passed"]

    def test_a_defect_stays_a_defect(self, database):
        with pytest.raises(Exception, match="no_such_table"), database.read() as uow:
            execute(uow, "SELECT * FROM no_such_table")


def test_times_keep_their_microseconds():
    time = datetime(2031, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)
    assert from_us(to_us(time)) == time


def test_its_clock_is_the_same_for_all_and_goes_on(database):
    with database.write() as uow:
        first = uow.now()
        uow.commit()
    with database.read() as uow:
        second = uow.now()
    assert first.tzinfo is UTC
    assert first <= second
    # Both servers run on this machine.
    assert abs(second - datetime.now(UTC)) < timedelta(minutes=1)
