"""Uploads, deletions, leases and collections at random, by two stores over one database, or one over SQLite.

Never is a blob missing that somebody may count on; in the end only what is referred to is left.
"""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from services.adapter_store.blobs import LocalBlobs
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.version import Lineage, VersionState, adapter_key
from services.adapter_store.metadata import Database
from services.adapter_store.staging import LocalStaging
from services.adapter_store.store import Store
from services.common.errors import Reason, ServiceError
from tests.adapter_files import BASE_MODEL, adapter_files, declared, layer, lora

# Few contents for many uploads: the same bytes come and go.
CONTENTS = [adapter_files(lora(layer(0, "self_attn.q_proj"), seed=seed)) for seed in range(6)]
NAMES = [AdapterName("acme", "a"), AdapterName("acme", "b"), AdapterName("beta", "a")]
# What may come of losing a race, and of a store that is told to try again.
FAIR = {
    Reason.UPLOAD_NOT_FOUND,
    Reason.VERSION_NOT_FOUND,
    Reason.VERSION_NOT_ACTIVE,
    Reason.STORE_UNAVAILABLE,
    Reason.QUOTA_EXCEEDED,
}


@pytest.fixture
def stores(database_url, tmp_path):
    """Two stores on PostgreSQL, one on SQLite, over the same directories."""
    databases = [Database(database_url) for _ in range(1 if database_url.startswith("sqlite") else 2)]

    def open_one(database):
        blobs = LocalBlobs(tmp_path / "blobs")
        staging = LocalStaging(tmp_path / "uploads", blobs)
        # What is deleted goes with the next collection, so that there is something to race for.
        return Store(database, blobs, staging, 1 << 20, deleted_grace=timedelta(0))

    opened = [open_one(database) for database in databases]
    opened[0].base_models.register(BASE_MODEL)
    for name in NAMES:
        opened[0].adapters.create(name, BASE_MODEL.name, "", "", {})
    yield opened
    for database in databases:
        database.close()


class Chaos:
    """The actions, each one step of one thread; `leased` are keys whose bytes a lease keeps."""

    def __init__(self, stores: list[Store], seed: int) -> None:
        self.stores = stores
        self.random = random.Random(seed)
        self.collected = 0
        self.lost: list[str] = []
        self._lock = threading.Lock()

    def upload(self, store: Store, rng: random.Random) -> None:
        name, files = rng.choice(NAMES), rng.choice(CONTENTS)
        upload, _ = store.uploads.start(name, declared(files), {}, Lineage(), "")
        other = rng.choice(self.stores)
        for path in sorted(files.keys() - upload.stored):
            target = other.intake.open_file(upload.id, path)
            other.intake.append(target, 0, files[path], None)
            other.intake.finish_file(target)
        if rng.random() < 0.3:
            store.uploads.abort(upload.id)
            return
        version = store.uploads.finish(upload.id)
        self.check_readable(store, name, version.version)

    def delete(self, store: Store, rng: random.Random) -> None:
        """Deletes every version of one content, so that only uploads still refer to it."""
        key = adapter_key(declared(rng.choice(CONTENTS)))
        for name in NAMES:
            for version in store.versions.list(name, 50, "").rows:
                if version.key == key and version.state is VersionState.ACTIVE:
                    store.deletions.delete_version(name, version.version)

    def lease(self, store: Store, rng: random.Random) -> None:
        """Leases an ACTIVE version, deletes it, and finds its bytes there until the lease is released."""
        name = rng.choice(NAMES)
        versions = [v for v in store.versions.list(name, 50, "").rows if v.state is VersionState.ACTIVE]
        if not versions:
            return
        version, lease_id = rng.choice(versions), f"lease-{rng.random()}"
        store.leases.acquire(lease_id, "chaos", [version.key], 3600)
        if store.versions.get(name, version.version).state is VersionState.ACTIVE:
            # It was there after the lease was: from now on nothing may take its bytes.
            store.deletions.delete_version(name, version.version)
            for file in version.files:
                assert store.blobs.is_intact(file.sha256, file.size_bytes), f"leased {file.sha256} is gone"
        store.leases.release(lease_id)

    def collect(self, store: Store, rng: random.Random) -> None:
        found = store.garbage.collect(False, 0)
        assert not found.missing_sha256s, found
        with self._lock:
            self.collected += found.freed_blobs

    def check_readable(self, store: Store, name: AdapterName, number: int) -> None:
        version = store.versions.get(name, number)
        missing = [file for file in version.files if not store.blobs.is_intact(file.sha256, file.size_bytes)]
        # Unless it was deleted meanwhile, and what nobody refers to collected.
        if missing:
            assert store.versions.get(name, number).state is VersionState.DELETED, f"{version.name} {missing}"


def run_at_random(chaos: Chaos, action: Callable[..., None], seed: int, rounds: int) -> None:
    rng = random.Random(seed)
    for _ in range(rounds):
        try:
            action(rng.choice(chaos.stores), rng)
        except ServiceError as error:
            if error.reason not in FAIR:
                raise
            chaos.lost.append(f"{action.__name__}: {error}")


def run_all(chaos: Chaos, seed: int, rounds: int) -> None:
    actions = [chaos.upload, chaos.upload, chaos.delete, chaos.delete, chaos.lease, chaos.collect]
    with ThreadPoolExecutor(len(actions)) as threads:
        running = [
            threads.submit(run_at_random, chaos, action, seed * 100 + number, rounds)
            for number, action in enumerate(actions)
        ]
    for each in running:
        each.result()


def check_the_end(store: Store) -> None:
    """Only what versions refer to is left, and all of that, once uploads that lost a race are given up."""
    with store._database.read() as uow:
        unfinished = uow.uploads.open_ids()
    for upload_id in unfinished:
        store.uploads.abort(upload_id)
    store.garbage.collect(False, 0)
    wanted = set()
    for name in NAMES:
        for version in store.versions.list(name, 1000, "").rows:
            if version.state in (VersionState.ACTIVE, VersionState.DISABLED):
                wanted |= {file.sha256 for file in version.files}
    assert {blob.sha256 for blob in store.blobs.entries()} == wanted
    assert store.check_integrity() == []


def test_nobody_loses_what_he_counts_on(stores):
    chaos = Chaos(stores, seed=0)
    run_all(chaos, seed=1, rounds=12)
    check_the_end(stores[0])


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_nobody_loses_what_he_counts_on_for_long(stores, rounds):
    chaos = Chaos(stores, seed=0)
    for seed in range(rounds(20)):
        run_all(chaos, seed=seed, rounds=40)
        check_the_end(stores[-1])
    assert chaos.collected >= rounds(20)
