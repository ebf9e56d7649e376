import queue
import threading

import pytest
import torch

from services.common.errors import Code, Reason, ServiceError
from services.inference.adapters.completions import Fetched, FetchFailed
from services.inference.adapters.io_orders import FetchSource
from tests.unit.inference.adapters.fetch_parts import FetchParts
from tests.unit.inference.adapters.lora_files import Q0, SITES, DirectoryReader, linear, resolved, write


class Rig:
    def __init__(self, tmp_path, **threads):
        self.reader = DirectoryReader()
        self.cache_dir = tmp_path / "cache"
        self.posted = queue.SimpleQueue()
        self.parts = FetchParts(self.reader, self.cache_dir, self.posted.put, SITES, **threads)
        self.fetcher, self.host_cache = self.parts.fetcher, self.parts.host_cache

    def next(self):
        return self.posted.get(timeout=10)


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path)
    yield rig
    rig.parts.close()
    rig.host_cache.check_integrity()


def test_fetched_from_the_store_then_from_disk(rig, tmp_path):
    adapter = rig.reader.add(write(tmp_path / "a", linear(Q0, 4)))
    rig.fetcher.submit(adapter)
    assert rig.next() == Fetched(adapter.key, 1, 1024, FetchSource.STORE)
    assert rig.host_cache.get(adapter.key).rank == 4
    rig.host_cache.drop(adapter.key)
    rig.fetcher.submit(adapter)
    assert rig.next() == Fetched(adapter.key, 1, 1024, FetchSource.DISK)
    assert rig.reader.reads == ["a/adapter_config.json", "a/adapter_model.safetensors"]


def test_files_that_inference_does_not_need_are_not_read(rig, tmp_path):
    directory = write(tmp_path / "a", linear(Q0, 4))
    (directory / "README.md").write_text("hello")
    rig.fetcher.submit(rig.reader.add(directory))
    assert isinstance(rig.next(), Fetched)
    assert "a/README.md" not in rig.reader.reads


def test_one_slow_download_delays_nobody_else(rig, tmp_path):
    slow = rig.reader.add(write(tmp_path / "slow", linear(Q0, 4, seed=1)), "slow")
    rig.reader.gates[slow.version_name] = threading.Event()
    rig.fetcher.submit(slow)
    quick = [
        rig.reader.add(write(tmp_path / name, linear(Q0, 4, seed=9 + i)), name)
        for i, name in enumerate("abc")
    ]
    for adapter in quick:
        rig.fetcher.submit(adapter)
    assert {rig.next().key for _ in quick} == {adapter.key for adapter in quick}
    rig.reader.gates[slow.version_name].set()
    assert rig.next().key == slow.key


def test_a_refusal_is_posted_as_it_is(rig, tmp_path):
    adapter = rig.reader.add(write(tmp_path / "a", {"x": torch.zeros(1)}))
    rig.fetcher.submit(adapter)
    failed = rig.next()
    assert isinstance(failed, FetchFailed)
    assert (failed.key, failed.error.reason) == (adapter.key, Reason.UNSUPPORTED_ADAPTER)
    assert rig.host_cache.keys() == set()


def test_a_version_without_its_files_is_refused(rig, tmp_path):
    directory = write(tmp_path / "a", linear(Q0, 4))
    (directory / "adapter_config.json").unlink()
    rig.fetcher.submit(resolved(directory))
    assert rig.next().error.field == "adapter_config.json"


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (ServiceError(Code.UNAVAILABLE, Reason.STORE_UNAVAILABLE, "down"), Code.UNAVAILABLE, "down"),
        (OSError(28, "No space left on device"), Code.INTERNAL, "--cache-dir"),
        (ZeroDivisionError("secret"), Code.INTERNAL, "incident"),
    ],
)
def test_any_exception_becomes_a_service_error(rig, tmp_path, raised, code, words):
    adapter = rig.reader.add(write(tmp_path / "a", linear(Q0, 4)))
    rig.reader.errors[adapter.version_name] = raised
    rig.fetcher.submit(adapter)
    error = rig.next().error
    assert error.code is code
    assert words in error.message
    assert "secret" not in error.message
    assert list(rig.cache_dir.iterdir()) == []


def test_downloads_that_hang_hold_up_nothing_that_is_on_disk(rig, tmp_path):
    on_disk = rig.reader.add(write(tmp_path / "d", linear(Q0, 4)), "d")
    rig.fetcher.submit(on_disk)
    assert rig.next().source is FetchSource.STORE
    rig.host_cache.drop(on_disk.key)
    hanging = [rig.reader.add(write(tmp_path / n, linear(Q0, 4, seed=ord(n))), n) for n in "efgh"]
    for adapter in hanging:
        rig.reader.gates[adapter.version_name] = threading.Event()
        rig.fetcher.submit(adapter)
    rig.fetcher.submit(on_disk)
    assert rig.next() == Fetched(on_disk.key, 1, 1024, FetchSource.DISK)
    for gate in rig.reader.gates.values():
        gate.set()
    assert {rig.next().key for _ in hanging} == {adapter.key for adapter in hanging}


def test_bytes_that_are_not_what_they_should_be_are_refused_and_not_kept(rig, tmp_path):
    directory = write(tmp_path / "a", linear(Q0, 4))
    adapter = rig.reader.add(directory)
    weights = directory / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    rig.fetcher.submit(adapter)
    error = rig.next().error
    assert (error.code, error.reason) == (Code.DATA_LOSS, Reason.CORRUPT_BLOB)
    assert list(rig.cache_dir.iterdir()) == []


def test_close_ends_what_runs_and_leaves_nothing_half_done(tmp_path):
    rig = Rig(tmp_path, store_threads=1)
    adapters = [rig.reader.add(write(tmp_path / n, linear(Q0, 4, seed=ord(n))), n) for n in "abc"]
    for adapter in adapters:
        rig.reader.gates[adapter.version_name] = threading.Event()
        rig.fetcher.submit(adapter)
    assert rig.reader.began.wait(10)
    rig.parts.close()
    assert rig.reader.is_closed
    assert isinstance(rig.next(), FetchFailed)
    assert list(rig.cache_dir.iterdir()) == []
