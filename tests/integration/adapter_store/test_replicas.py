"""Two replicas of the store, as processes, on one PostgreSQL and one bucket: whoever races, one wins."""

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
import psycopg
import pytest

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.domain.adapter import MAX_ALIASES
from services.adapter_store.servicer import wire
from services.adapter_store.uploads.uploads import MAX_OPEN_UPLOADS
from tests.adapter_files import BASE_MODEL, adapter_files, declared
from tests.integration.adapter_store.store_process import StoreProcess, error_info, push, register

NUM_WRITERS = 16
FILES = adapter_files()


def attempt(call: Callable, *arguments):
    """What the call answers, or the reason of its refusal."""
    try:
        return call(*arguments)
    except grpc.RpcError as error:
        return error_info(error).reason


@dataclass(frozen=True)
class Replicas:
    """Sixteen writers, eight at each replica, that all begin a round at once."""

    stubs: list
    threads: ThreadPoolExecutor
    database_url: str

    def race(self, call: Callable) -> list:
        """What `call(stub, number)` gives each writer."""
        start = threading.Barrier(NUM_WRITERS)

        def take_part(number: int):
            start.wait()
            return attempt(call, self.stubs[number % 2], number)

        return list(self.threads.map(take_part, range(NUM_WRITERS)))


@pytest.fixture(scope="module")
def replicas(postgres, migrated_postgres, s3_server, tmp_path_factory) -> Iterator[Replicas]:
    url, directory = postgres.new_database(migrated_postgres), tmp_path_factory.mktemp("replicas")
    flags = ["--database-url", url, *s3_server.flags(f"replicas-{uuid.uuid4().hex[:8]}")]
    with (
        StoreProcess(directory / "a", directory / "a.log", *flags) as a,
        StoreProcess(directory / "b", directory / "b.log", *flags) as b,
        ThreadPoolExecutor(NUM_WRITERS) as threads,
    ):
        yield Replicas([a.stub, b.stub], threads, url)
    for log in ("a.log", "b.log"):
        assert "Traceback" not in (directory / log).read_text()


@pytest.fixture
def name(replicas) -> str:
    """An adapter of this test alone."""
    name = f"acme/a-{uuid.uuid4().hex[:8]}"
    register(replicas.stubs[0], name)
    return name


def start(stub, name, request_id=""):
    files = wire.files(declared(FILES))
    return stub.StartUpload(pb.StartUploadRequest(parent=name, files=files, request_id=request_id))


def set_alias(stub, name, version, expected_version, alias="production"):
    request = pb.SetAliasRequest(name=f"{name}@{alias}", version=version, expected_version=expected_version)
    return stub.SetAlias(request).version


def race_for_the_alias(replicas: Replicas, name: str, num_rounds: int) -> None:
    for _ in range(NUM_WRITERS + 1):
        push(replicas.stubs[0], name, FILES)
    current, moves = 0, []
    for _ in range(num_rounds):
        # Each writer has a version of its own, and none that of the last winner.
        targets = [number for number in range(1, NUM_WRITERS + 2) if number != current][:NUM_WRITERS]
        outcomes = replicas.race(lambda stub, n, to=targets, at=current: set_alias(stub, name, to[n], at))
        winners = [outcome for outcome in outcomes if isinstance(outcome, int)]
        assert len(winners) == 1, outcomes
        assert Counter(outcomes)["ALIAS_MOVED"] == NUM_WRITERS - 1, outcomes
        moves.append((current, winners[0]))
        current = winners[0]
        for stub in replicas.stubs:
            assert stub.ResolveVersion(pb.ResolveVersionRequest(name=name)).version == current
    request = pb.ListAliasHistoryRequest(name=f"{name}@production", page_size=1000)
    history = replicas.stubs[0].ListAliasHistory(request).moves
    assert [(move.from_version, move.to_version) for move in reversed(history)] == moves


def race_for_version_numbers(replicas: Replicas, name: str, num_rounds: int) -> None:
    """More uploads than may be open at once: some transactions fail, and their numbers are given again."""
    numbers, num_refused = [], 0
    for _ in range(num_rounds):
        pairs = replicas.race(lambda stub, n: [attempt(start, stub, name) for _ in range(2)])
        outcomes = [outcome for pair in pairs for outcome in pair]
        uploads = [outcome for outcome in outcomes if not isinstance(outcome, str)]
        assert len(uploads) == MAX_OPEN_UPLOADS, outcomes
        num_refused += outcomes.count("QUOTA_EXCEEDED")
        numbers += [int(upload.adapter_version.rpartition("/")[2]) for upload in uploads]
        replicas.race(
            lambda stub, n, open_now=uploads: stub.AbortUpload(
                pb.AbortUploadRequest(upload_id=open_now[n].upload_id)
            )
        )
    assert sorted(numbers) == list(range(1, MAX_OPEN_UPLOADS * num_rounds + 1))
    assert num_refused == (2 * NUM_WRITERS - MAX_OPEN_UPLOADS) * num_rounds


def test_of_sixteen_writers_one_moves_the_alias_each_round(replicas, name):
    race_for_the_alias(replicas, name, 8)


def test_version_numbers_have_no_gap_and_none_is_given_twice(replicas, name):
    race_for_version_numbers(replicas, name, 3)


@pytest.mark.soak
def test_many_rounds_for_the_alias(replicas, name, rounds):
    race_for_the_alias(replicas, name, rounds(200, least=20))


@pytest.mark.soak
def test_many_rounds_for_version_numbers(replicas, name, rounds):
    race_for_version_numbers(replicas, name, rounds(100, least=10))


def test_one_name_is_taken_once(replicas, name):
    request = pb.CreateAdapterRequest(adapter=pb.Adapter(name=f"{name}-x", base_model=BASE_MODEL.name))
    outcomes = replicas.race(lambda stub, n: stub.CreateAdapter(request).name)
    assert Counter(outcomes)["ADAPTER_EXISTS"] == NUM_WRITERS - 1, outcomes


def test_one_digest_wins_a_base_models_name(replicas):
    base_model = f"contended-{uuid.uuid4().hex[:8]}"

    def register_one(stub, number):
        model = wire.base_model(BASE_MODEL)
        model.base_model, model.digest = base_model, f"{number:064x}"
        return stub.RegisterBaseModel(pb.RegisterBaseModelRequest(base_model=model)).digest

    outcomes = replicas.race(register_one)
    assert Counter(outcomes)["BASE_MODEL_CONFLICT"] == NUM_WRITERS - 1, outcomes
    known = replicas.stubs[0].GetBaseModel(pb.GetBaseModelRequest(base_model=base_model))
    assert known.digest in outcomes


def test_one_request_id_starts_one_upload(replicas, name):
    uploads = replicas.race(lambda stub, n: start(stub, name, "once").upload_id)
    assert len(set(uploads)) == 1, uploads


def test_an_alias_is_made_once_and_there_are_never_more_than_may_be(replicas, name):
    push(replicas.stubs[0], name, FILES)
    outcomes = replicas.race(lambda stub, n: set_alias(stub, name, 1, 0))
    assert Counter(outcomes) == {1: 1, "ALIAS_MOVED": NUM_WRITERS - 1}
    fill = (
        "INSERT INTO aliases (adapter_id, alias, version, revision, update_time_us)"
        " SELECT id, 'filler-' || n, 1, 1, 0 FROM adapters, generate_series(1, %s) n"
        " WHERE tenant = %s AND adapter = %s"
    )
    with psycopg.connect(replicas.database_url) as connection:
        connection.execute(fill, (MAX_ALIASES - 4, *name.split("/")))
    outcomes = replicas.race(lambda stub, n: set_alias(stub, name, 1, 0, f"b{n}"))
    assert Counter(outcomes) == {1: 3, "QUOTA_EXCEEDED": NUM_WRITERS - 3}
