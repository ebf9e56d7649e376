import contextlib
import threading
from datetime import UTC, datetime

import pytest

from services.adapter_store.domain.names import AdapterName
from services.adapter_store.metadata import Database
from services.adapter_store.metadata.timestamps import from_us, to_us
from tests.adapter_files import BASE_MODEL


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'x.sqlite3'}")
    yield database
    database.close()


@pytest.mark.parametrize("damage", ["no database", "no directory"])
def test_what_cannot_be_opened_is_an_os_error(tmp_path, damage):
    path = tmp_path / ("none" if damage == "no directory" else ".") / "bad.sqlite3"
    if damage == "no database":
        path.write_bytes(b"not a database" * 100)
    with pytest.raises(OSError, match=r"bad\.sqlite3 cannot be opened"):
        Database(f"sqlite:///{path}")


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


def test_survives_a_power_cut_and_shares(database):
    with database.read() as uow:
        run = uow.uploads._connection.exec_driver_sql
        assert run("PRAGMA journal_mode").scalar() == "wal"
        assert run("PRAGMA synchronous").scalar() == 2
        assert run("PRAGMA foreign_keys").scalar() == 1


def test_readers_go_on_while_a_writer_writes_and_see_only_what_is_committed(database):
    with database.write() as writer:
        writer.base_models.insert(BASE_MODEL)
        with database.read() as reader:
            assert reader.base_models.get(BASE_MODEL.name) is None
        writer.commit()


def test_writers_queue(database):
    name = AdapterName("a", "b")
    with database.write() as uow:
        uow.base_models.insert(BASE_MODEL)
        uow.adapters.insert(name, BASE_MODEL.name, "", "", {}, datetime(2030, 1, 1, tzinfo=UTC))
        uow.commit()
    numbers = []

    def allocate():
        for _ in range(5):
            with database.write() as uow:
                numbers.append(uow.adapters.next_version(uow.adapters.get(name).id))
                uow.commit()

    threads = [threading.Thread(target=allocate) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 31))


def test_times_keep_their_microseconds():
    time = datetime(2031, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)
    assert from_us(to_us(time)) == time
