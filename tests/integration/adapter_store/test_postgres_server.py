"""The server that other tests stand on: what it promises them."""

import shutil

import psycopg
import pytest

from tests.postgres_binaries import of_package
from tests.postgres_server import GUARDED_USER, PASSWORD, PostgresServer


def query(url, sql, **options):
    with psycopg.connect(url, **options) as connection:
        return connection.execute(sql).fetchone()[0]


def test_databases_are_fresh_and_in_utf8(postgres):
    first, second = postgres.new_database(), postgres.new_database()
    with psycopg.connect(first, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (x text)")
    assert query(second, "SELECT to_regclass('t')") is None
    assert query(second, "SHOW server_encoding") == "UTF8"


def test_a_password_is_asked_for_and_checked(postgres):
    url = postgres.url("postgres", GUARDED_USER)
    assert query(url, "SELECT 1", password=PASSWORD) == 1
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, password="wrong")


def test_a_killed_server_starts_again_with_what_was_committed():
    server = PostgresServer(durable=True)
    try:
        url = server.new_database()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE t AS SELECT 7 AS x")
            server.kill()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        server.start()
        assert query(url, "SELECT x FROM t") == 7
        assert query(url, "SHOW fsync") == "on"
    finally:
        server.close()


@pytest.mark.parametrize("is_readable", [True, False])
def test_the_binaries_of_the_package_serve_too(tmp_path, is_readable):
    (binaries,) = of_package()[:1]
    if not is_readable:
        # pytest's own directories let nobody else in.
        package = tmp_path / binaries.parents[1].name
        shutil.copytree(binaries.parent, package / binaries.parent.name, symlinks=True)
        libraries = binaries.parents[1].with_name(f"{package.name}.libs")
        shutil.copytree(libraries, tmp_path / libraries.name)
        binaries = package / binaries.parent.name / "bin"
    server = PostgresServer(binaries=[binaries])
    try:
        assert query(server.new_database(), "SELECT 1") == 1
    finally:
        server.close()
