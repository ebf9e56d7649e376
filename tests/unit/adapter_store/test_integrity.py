import pytest

from services.adapter_store.domain.actor import Actor
from services.adapter_store.domain.version import Lineage
from tests.adapter_files import adapter_files, declared
from tests.unit.adapter_store.conftest import NAME, publish


@pytest.mark.parametrize(
    ("damage", "repair", "says"),
    [
        ("UPDATE versions SET key = upper(key)", "UPDATE versions SET key = lower(key)", "its key"),
        ("UPDATE versions SET rank = NULL", "UPDATE versions SET rank = 4 WHERE version = 1", "weights None"),
        (
            "UPDATE versions SET state = 'FAILED' WHERE version = 2",
            "UPDATE versions SET state = 'CREATING' WHERE version = 2",
            "CREATING without",
        ),
        (
            "UPDATE uploads SET state = 'ABORTED' WHERE version = 2",
            "UPDATE uploads SET state = 'OPEN' WHERE version = 2",
            "staged but not open",
        ),
        ("UPDATE adapters SET last_version = 9", "UPDATE adapters SET last_version = 2", "not 1 to 9"),
        ("UPDATE aliases SET version = 9", "UPDATE aliases SET version = 1", "not there"),
        (
            "UPDATE tenant_blobs SET size_bytes = size_bytes + 1",
            "UPDATE tenant_blobs SET size_bytes = size_bytes - 1",
            "missing or changed",
        ),
        (
            "UPDATE version_files SET size_bytes = size_bytes + 1",
            "UPDATE version_files SET size_bytes = size_bytes - 1",
            "blob store",
        ),
        (
            "UPDATE version_files SET stored = false WHERE version = 2",
            "UPDATE version_files SET stored = true WHERE version = 2",
            "staged, not",
        ),
    ],
)
def test_every_broken_rule_is_reported(store, damage, repair, says):
    publish(store)
    store.aliases.set(NAME, "staging", 1, None, Actor("", "test"))
    store.uploads.start(NAME, declared(adapter_files()), {}, Lineage(), "")
    assert store.check_integrity() == []
    assert repr(store) == "Store(versions ACTIVE=1 CREATING=1, uploads FINISHED=1 OPEN=1)"

    def run(statement):
        with store._database._writers.connect() as connection, connection.begin():
            connection.exec_driver_sql(statement)

    run(damage)
    assert says in "\n".join(store.check_integrity())
    run(repair)
