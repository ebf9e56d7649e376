"""The store as a process on PostgreSQL: when it starts, and what it says while the database is away."""

import subprocess
import sys

import grpc
import psycopg
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from protos.multilora.v1 import adapter_store_pb2 as pb
from tests.adapter_files import adapter_files
from tests.integration.adapter_store.store_process import StoreProcess, error_info, push, register
from tests.postgres_server import GUARDED_USER, PASSWORD, PostgresServer

MODULE = [sys.executable, "-m", "services.adapter_store"]
NAME = "acme/support"


@pytest.fixture
def own_server():
    server = PostgresServer(durable=True)
    yield server
    server.close()


def run(*argv):
    return subprocess.run([*MODULE, *argv], capture_output=True, text=True, timeout=60, check=False)


def retry_delay_s(error):
    for detail in rpc_status.from_call(error).details:
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            return info.retry_delay.ToTimedelta().total_seconds()
    return None


def test_it_starts_on_a_migrated_database_alone(postgres, tmp_path):
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    database = postgres.new_database().rpartition("/")[2]
    url = postgres.url(database, GUARDED_USER)
    flags = ["--data-dir", str(tmp_path / "store"), "--database-url", url]
    flags += ["--database-password-file", str(password)]
    refused = run(*flags, "--listen", "127.0.0.1:0")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "run `multilora store migrate`" in refused.stderr
    first, again = run("migrate", *flags), run("migrate", *flags)
    assert (first.returncode, first.stdout) == (0, "schema none, this program's 0001: migrated\n")
    assert (again.returncode, again.stdout) == (0, "schema 0001, this program's 0001: nothing to do\n")
    with StoreProcess(tmp_path / "store", tmp_path / "log", *flags[2:]) as store:
        register(store.stub, NAME)
        with psycopg.connect(url, password=PASSWORD) as connection:
            assert connection.execute("SELECT adapter FROM adapters").fetchall() == [("support",)]
    password.write_text("wrong")
    wrong = run("migrate", *flags)
    assert (wrong.returncode, "password authentication failed" in wrong.stderr) == (1, True)
    for said in (refused, first, wrong):
        assert PASSWORD not in said.stderr + said.stdout
        assert "Traceback" not in said.stderr


def test_while_the_database_is_away_calls_are_unavailable_and_then_go_on(own_server, tmp_path):
    url = own_server.new_database()
    assert run("migrate", "--database-url", url).returncode == 0
    log = tmp_path / "log"
    with StoreProcess(tmp_path / "store", log, "--database-url", url) as store:
        register(store.stub, NAME)
        version = push(store.stub, NAME, adapter_files())
        resolve = pb.ResolveVersionRequest(name=NAME)
        disable = pb.DisableVersionRequest(name=version.name)
        for _ in range(2):
            own_server.kill()
            for call, request in ((store.stub.ResolveVersion, resolve), (store.stub.DisableVersion, disable)):
                with pytest.raises(grpc.RpcError) as caught:
                    call(request)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
                assert error_info(caught.value).reason == "STORE_UNAVAILABLE"
                assert retry_delay_s(caught.value) == 1.0
            own_server.start()
            assert store.stub.ResolveVersion(resolve).key == version.key
            assert store.stub.DisableVersion(disable).state == pb.DISABLED
            enable = pb.EnableVersionRequest(name=version.name)
            assert store.stub.EnableVersion(enable).state == pb.ACTIVE
    assert "Traceback" not in log.read_text()
