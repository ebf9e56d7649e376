"""What a name costs to resolve, and a page to list, does not grow with what the database holds.

Both sizes run in turn, call by call, in one run: what else the machine does falls on both alike.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psycopg
import pytest
from sqlalchemy import event

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.blobs import LocalBlobs
from services.adapter_store.domain.names import Reference
from services.adapter_store.metadata import Database
from services.adapter_store.right_place import MAX_LOOKED_FOR
from services.adapter_store.settings import PlaceSettings
from services.adapter_store.store import Store, open_store
from tests.integration.adapter_store.store_process import StoreProcess
from tests.soak.many_rows import PRODUCTION, VERSIONS_EACH, fill, name_of

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

SMALL, LARGE = 100, 10_000
PAGE_SIZE = 50
NUM_CALLS = 4000
NUM_WARM = 50
WINDOW = 200
MOST_RATIO = 1.5
# The p99 of fewer calls is two or three of them: what else the machine did. A short run is held to its p90.
LEAST_CALLS_FOR_P99 = 1000
# Said beside what was measured, and not asserted: it is a figure of a machine that does nothing else.
GOAL_P99_MS = 5.0


@dataclass
class Size:
    """One database, and how long each call on it took."""

    num_adapters: int
    url: str
    took_s: list[float] = field(default_factory=list)

    def quantile_ms(self, q: float) -> float:
        return _quantile_ms(self.took_s, q)

    def quietest_p99_ms(self) -> float:
        """Of WINDOW calls in a row, where they took least: what the machine's other work hides."""
        starts = range(0, len(self.took_s) - WINDOW + 1, WINDOW)
        return min(_quantile_ms(self.took_s[start : start + WINDOW], 0.99) for start in starts)


def _quantile_ms(took_s: list[float], q: float) -> float:
    return sorted(took_s)[int(q * (len(took_s) - 1))] * 1e3


@pytest.fixture(scope="module")
def databases(postgres, migrated_postgres) -> dict[int, str]:
    urls = {size: postgres.new_database(migrated_postgres) for size in (SMALL, LARGE)}
    for num_adapters, url in urls.items():
        fill(url, num_adapters)
    return urls


@contextlib.contextmanager
def stores(databases, tmp_path) -> Iterator[dict[int, Store]]:
    with contextlib.ExitStack() as opened:
        yield {
            size: opened.enter_context(
                open_store(PlaceSettings(data_dir=tmp_path / str(size), database_url=url), 1 << 20)
            )
            for size, url in databases.items()
        }


@contextlib.contextmanager
def stubs(databases, tmp_path) -> Iterator[dict]:
    for size, url in databases.items():
        keep_some_bytes(url, tmp_path / str(size))
    with contextlib.ExitStack() as opened:
        yield {
            size: opened.enter_context(
                StoreProcess(tmp_path / str(size), tmp_path / f"{size}.log", "--database-url", url)
            ).stub
            for size, url in databases.items()
        }


def keep_some_bytes(url: str, data_dir: Path) -> None:
    """A store starts only where it finds some of its database's bytes: files that nobody reads here."""
    stand_in = data_dir / "stand-in"
    data_dir.mkdir()
    stand_in.write_bytes(b"read by nobody")
    blobs = LocalBlobs(PlaceSettings().blob_dir(data_dir))
    with contextlib.closing(Database(url)) as database, database.read() as uow:
        for sha256 in uow.blobs.some_readable(MAX_LOOKED_FOR):
            blobs.put(stand_in, sha256)


def compare(what: str, databases: dict[int, str], num_calls: int, call: Callable[[int, int], None]) -> None:
    """Times `call(size, adapter number)` on both sizes in turn; prints, and holds the large to the small."""
    random = Random(7)
    sizes = {number: Size(number, url) for number, url in databases.items()}
    for turn in range(NUM_WARM + num_calls):
        for number in random.sample(sorted(sizes), 2):
            adapter = random.randrange(number)
            before_s = time.perf_counter()
            call(number, adapter)
            if turn >= NUM_WARM:
                sizes[number].took_s.append(time.perf_counter() - before_s)
    for size in sizes.values():
        p50, p99 = size.quantile_ms(0.5), size.quantile_ms(0.99)
        num_versions = size.num_adapters * VERSIONS_EACH
        print(f"\n{what}: {size.num_adapters} adapters, {num_versions} versions: ", end="")
        print(f"p50 {p50:.2f} ms, p99 {p99:.2f} ms of {num_calls} calls, ", end="")
        print(f"p99 {size.quietest_p99_ms():.2f} ms of the quietest {WINDOW}", end="")
    ratios = {q: sizes[LARGE].quantile_ms(q) / sizes[SMALL].quantile_ms(q) for q in (0.5, 0.9, 0.99)}
    shown = ", ".join(f"p{100 * q:.0f} {ratio:.2f}" for q, ratio in ratios.items())
    print(f"\n{what}: large / small: {shown}")
    p99_ms = sizes[LARGE].quantile_ms(0.99)
    print(f"{what}: p99 {p99_ms:.2f} ms, goal {GOAL_P99_MS} ms: ", end="")
    print(f"{'met' if p99_ms <= GOAL_P99_MS else 'missed'} (load {os.getloadavg()[0]:.1f})")
    assert ratios[0.5] <= MOST_RATIO, what
    assert ratios[0.99 if num_calls >= LEAST_CALLS_FOR_P99 else 0.9] <= MOST_RATIO, what


def form(adapter: int) -> tuple[str | None, int]:
    """Names take turns in their forms: bare, an alias, latest; with the version that each means."""
    forms = ((None, PRODUCTION), ("staging", 9), ("latest", VERSIONS_EACH))
    return forms[adapter % 3]


def tokens_of_page_starts(list_page: Callable[[str], tuple[list[str], str]]) -> list[str]:
    """Where the pages of a list start."""
    tokens, token = [""], ""
    while True:
        _, token = list_page(token)
        if not token:
            return tokens
        tokens.append(token)


def test_resolving_through_the_catalog(databases, tmp_path, rounds):
    with stores(databases, tmp_path) as opened:

        def resolve(size, adapter):
            alias, version = form(adapter)
            found = opened[size].versions.resolve(Reference(name_of(adapter), alias=alias))
            assert found.version.version == version

        compare("resolve, catalog", databases, rounds(NUM_CALLS, least=500), resolve)


def test_listing_deep_through_the_catalog(databases, tmp_path, rounds):
    with stores(databases, tmp_path) as opened:

        def page(size, token):
            found = opened[size].adapters.list(None, PAGE_SIZE, token)
            return [adapter.name for adapter in found.rows], found.next_page_token

        starts = {size: tokens_of_page_starts(lambda token, at=size: page(at, token)) for size in databases}

        def list_deep(size, adapter):
            # The second half of the list.
            after = starts[size][len(starts[size]) // 2 :]
            names, _ = page(size, after[adapter % len(after)])
            assert len(names) == PAGE_SIZE

        compare("list, catalog", databases, rounds(NUM_CALLS // 2, least=250), list_deep)


def test_both_through_grpc(databases, tmp_path, rounds):
    with stubs(databases, tmp_path) as opened:

        def resolve(size, adapter):
            alias, version = form(adapter)
            name = f"{name_of(adapter).tenant}/{name_of(adapter).adapter}" + (f"@{alias}" if alias else "")
            assert opened[size].ResolveVersion(pb.ResolveVersionRequest(name=name)).version == version

        def page(size, token):
            request = pb.ListAdaptersRequest(page_size=PAGE_SIZE, page_token=token)
            found = opened[size].ListAdapters(request)
            return list(found.adapters), found.next_page_token

        starts = {size: tokens_of_page_starts(lambda token, at=size: page(at, token)) for size in databases}

        def list_deep(size, adapter):
            after = starts[size][len(starts[size]) // 2 :]
            found, _ = page(size, after[adapter % len(after)])
            assert len(found) == PAGE_SIZE

        compare("resolve, gRPC", databases, rounds(NUM_CALLS, least=500), resolve)
        compare("list, gRPC", databases, rounds(NUM_CALLS // 2, least=250), list_deep)


def test_no_query_reads_a_whole_table(databases, tmp_path):
    with stores(databases, tmp_path) as opened:
        store, asked = opened[LARGE], []

        @event.listens_for(store._database._readers, "before_cursor_execute")
        def note(_connection, _cursor, statement, parameters, _context, _many):
            asked.append((statement, parameters))

        store.versions.resolve(Reference(name_of(LARGE // 2)))
        assert len(asked) == 2, "a name is resolved in two round trips"
        first = store.adapters.list(None, PAGE_SIZE, "")
        store.adapters.list(None, PAGE_SIZE, first.next_page_token)
        store.adapters.list("tenant-3", PAGE_SIZE, "")
        store.versions.get(name_of(5), 3)
        store.versions.list(name_of(5), 0, "")
    with psycopg.connect(databases[LARGE]) as connection:
        for statement, parameters in asked:
            plan = connection.execute(f"EXPLAIN {statement}", parameters).fetchall()
            text = "\n".join(line for (line,) in plan)
            assert "Seq Scan" not in text, f"{statement}\n{text}"
            assert "Index" in text, text
