import contextlib

import pytest
from sqlalchemy import text

from services.adapter_store.domain.names import AdapterName, parse_reference
from services.common.errors import Code, Reason, ServiceError
from tests.adapter_files import BASE_MODEL, WEIGHTS, adapter_files
from tests.unit.adapter_store.conftest import publish


def flipped(digest):
    return f"{int(digest[0], 16) ^ 1:x}{digest[1:]}"


@contextlib.contextmanager
def damaged(store, table, column, digest):
    """The digest with a bit flipped in that column, for the length of the `with`."""

    def change(before, after):
        with store._database._writers.connect() as connection, connection.begin():
            query = text(f"UPDATE {table} SET {column} = :after WHERE {column} = :before")
            assert connection.execute(query, {"after": after, "before": before}).rowcount == 1

    change(digest, flipped(digest))
    yield
    change(flipped(digest), digest)


@pytest.mark.parametrize(("table", "column"), [("version_files", "sha256"), ("versions", "key")])
def test_a_bit_flipped_in_a_digest_is_found_before_anything_is_resolved_or_read(store, table, column):
    version = publish(store, adapter_files(lora_alpha=3))
    other = AdapterName("acme", "other")
    store.adapters.create(other, BASE_MODEL.name, "", "", {})
    publish(store, adapter_files(lora_alpha=5), other)
    reference = parse_reference("acme/support", "name")
    digest = version.key if column == "key" else version.files[0].sha256
    with damaged(store, table, column, digest):
        for call in (
            lambda: store.versions.resolve(reference),
            lambda: store.versions.readable_file(reference, WEIGHTS),
        ):
            with pytest.raises(ServiceError) as caught:
                call()
            assert (caught.value.code, caught.value.reason) == (Code.DATA_LOSS, Reason.CORRUPT_BLOB)
        assert store.versions.resolve(parse_reference("acme/other", "name")).version.version == 1
        assert store.check_integrity() != []
    assert store.versions.resolve(reference).version == version
