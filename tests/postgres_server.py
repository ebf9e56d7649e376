"""A real PostgreSQL on a free loopback port, for tests: started when first asked for.

def test_x(postgres):          `postgres.new_database()` gives a URL
def test_y(database_url):      runs on SQLite and on PostgreSQL, each time on an empty database
"""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.postgres_binaries import choose, of_package, of_system

USER = "multilora"
# Let in by PASSWORD alone; USER needs none, which saves each connection some milliseconds.
GUARDED_USER = "guarded"
PASSWORD = "correct horse/battery@staple"

_START_TIMEOUT_S = 60.0
_DROP_RIGHTS = (
    "import os, sys; gid, uid, *command = sys.argv[1:]; os.setgroups([]); os.setgid(int(gid)); "
    "os.setuid(int(uid)); os.execv(command[0], command)"
)
_ACCESS = f"""
host all {GUARDED_USER} 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""
_OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "log_min_messages": "warning",
    "autovacuum_naptime": "5s",
}


class PostgresServer:
    """One server and its data. `kill` and `start` may alternate; `close` ends it and removes its files.

    Without `durable` nothing is synced: fast, and good only where the machine itself does not die. A killed
    server loses no commit either way, but only with `durable` does it do what a real one does. `binaries` are
    directories to take `postgres` and `initdb` from, the first that serves.
    """

    def __init__(self, *, durable: bool = False, binaries: Sequence[Path] | None = None) -> None:
        self._home = Path(tempfile.mkdtemp(prefix="multilora-postgres-"))
        self._as_owner = _unprivileged(self._home)
        self._data = self._home / "data"
        self._durable = durable
        self._names = (f"test_{number}" for number in itertools.count(1))
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._reader: threading.Thread | None = None
        try:
            binaries = [*of_system(), *of_package()] if binaries is None else binaries
            self._bin = choose(binaries, self._home / "installed", self._as_owner)
            self._init()
            self.port = _free_port()
            self.start()
        except BaseException:
            self.close()
            raise
        self._run_sql(f"CREATE ROLE {GUARDED_USER} LOGIN SUPERUSER PASSWORD '{PASSWORD}'")

    @property
    def log(self) -> str:
        """What the server said so far."""
        return "\n".join(self._lines)

    def url(self, database: str, user: str = USER) -> str:
        """The URL of a database; no password in it."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def new_database(self, template: str = "template0") -> str:
        """Makes a database, empty or a copy of `template`; its URL."""
        name = next(self._names)
        self._run_sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def start(self) -> None:
        """Starts the server on its port and waits until it takes connections."""
        options = dict(_OPTIONS)
        if not self._durable:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        command = [*self._as_owner, str(self._bin / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        command += [f"--{name}={value}" for name, value in options.items()]
        self._process = subprocess.Popen(
            command,
            cwd=self._home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._keep_log, args=(self._process,), daemon=True)
        self._reader.start()
        self._wait_until_ready()

    def kill(self) -> None:
        """SIGKILL to the server and each of its processes, as if the machine had lost them all at once."""
        process = self._process
        assert process is not None, "the server runs"
        os.kill(process.pid, signal.SIGSTOP)  # it must not start any more of them
        children = _children(process.pid)
        process.kill()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        self._ended()
        while any(os.path.exists(f"/proc/{pid}") for pid in children):
            time.sleep(0.005)

    def stop(self) -> None:
        """An orderly end that breaks off what is connected."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.kill()
            else:
                self._ended()

    def close(self) -> None:
        """Stops the server and removes its files."""
        self.stop()
        shutil.rmtree(self._home, ignore_errors=True)

    def _init(self) -> None:
        command = [
            *self._as_owner,
            str(self._bin / "initdb"),
            "-D",
            str(self._data),
            "-U",
            USER,
            "-E",
            "UTF8",
        ]
        command += ["--locale=C", "--no-sync", "-A", "trust"]
        done = subprocess.run(command, cwd=self._home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        (self._data / "pg_hba.conf").write_text(_ACCESS)

    def _wait_until_ready(self) -> None:
        import psycopg

        assert self._process is not None
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                ended = self._process.poll() is not None
                assert not ended, f"PostgreSQL did not start:\n{self.log}"
                assert time.monotonic() < deadline, f"PostgreSQL takes no connections:\n{self.log}"
                time.sleep(0.02)
            else:
                return

    def _keep_log(self, process: "subprocess.Popen[str]") -> None:
        assert process.stderr is not None
        with process.stderr as stderr:
            self._lines.extend(line.rstrip() for line in stderr)

    def _ended(self) -> None:
        assert self._reader is not None
        self._reader.join(timeout=10)
        self._process = self._reader = None

    def _run_sql(self, sql: str) -> None:
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server of this test run; started for the first test that asks."""
    server = PostgresServer()
    yield server
    # An orderly stop would first write down what is thrown away next.
    server.kill()
    server.close()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database with the store's tables, to be copied."""
    from services.adapter_store.metadata import migrate

    path = tmp_path_factory.mktemp("template") / "store.sqlite3"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(tmp_path: Path, migrated_sqlite: Path) -> str:
    """For tests that need a database with the store's tables, and no other kind than SQLite."""
    path = tmp_path / "store.sqlite3"
    shutil.copy(migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def migrated_postgres(postgres: PostgresServer) -> str:
    """The name of a PostgreSQL database with the store's tables, to be copied."""
    from services.adapter_store.metadata import migrate

    url = postgres.new_database()
    migrate(url)
    return url.rpartition("/")[2]


@pytest.fixture(scope="session")
def shared_postgres(postgres: PostgresServer, migrated_postgres: str) -> str:
    """The database of every test that asks for `database_url`: emptying it is faster than making one."""
    return postgres.new_database(migrated_postgres)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables on each kind of server."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.sqlite3'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with the store's tables, and nothing in them, on each kind of server."""
    if request.param == "sqlite":
        sqlite: str = request.getfixturevalue("sqlite_url")
        return sqlite
    url: str = request.getfixturevalue("shared_postgres")
    _empty(url)
    return url


def _empty(url: str) -> None:
    """Deletes every row, with what an earlier test has left connected; a fresh identity."""
    import psycopg

    from services.adapter_store.metadata.tables import metadata

    others = "datname = current_database() AND pid <> pg_backend_pid()"
    statements = [f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"]
    statements += [f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables)]
    identity = uuid.uuid4().hex
    counter = "INSERT INTO change_counter (id, last_sequence, database_id) VALUES"
    statements += [f"{counter} (1, 0, '{identity}')"]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("; ".join(statements))  # type: ignore[arg-type]


def _unprivileged(home: Path) -> list[str]:
    """What goes before a command so that it runs as who may run PostgreSQL; `home` becomes his.

    Root may not. A program drops the rights, not Popen's `user`: that would fork, which gRPC's threads in
    the test's own process do not survive.
    """
    if os.geteuid() != 0:
        return []
    user = next(entry for name in ("postgres", "nobody") if (entry := _user(name)) is not None)
    os.chown(home, user.pw_uid, user.pw_gid)
    return [sys.executable, "-c", _DROP_RIGHTS, str(user.pw_gid), str(user.pw_uid)]


def _user(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def _children(pid: int) -> list[int]:
    """Processes whose parent is `pid`. Each of PostgreSQL's leads a session, so no group holds them all."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name before the last `)` may hold anything.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found
