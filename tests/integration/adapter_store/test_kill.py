"""kill -9 at random moments of an upload: a version is then wholly there, or can be resumed, or is absent."""

import random
import threading
from collections import Counter

import grpc

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.settings import PlaceSettings
from services.adapter_store.store import open_store
from tests.adapter_files import large_adapter_files
from tests.integration.adapter_store.store_process import CHUNK_BYTES, StoreProcess, push, read, register

NUM_KILLS = 20
FILE_BYTES = 3 << 20
NUM_MESSAGES = FILE_BYTES // CHUNK_BYTES + 8
NAME = "acme/support"


class Killer:
    """Kills the store `after_s` after the client is about to send message number `at_message`."""

    def __init__(self, store, at_message, after_s):
        self._left = at_message
        self._timer = threading.Timer(after_s, store.process.kill)

    def __call__(self):
        if self._left == 0:
            self._timer.start()
        self._left -= 1

    def wait(self):
        """Strikes at once if the push was over before its moment came."""
        if self._left >= 0:
            self._timer.start()
        self._timer.join()


def push_and_kill(store, files, number, moments):
    """Pushes version `number` and kills the store meanwhile; whether the push got through."""
    killer = Killer(store, moments.randrange(NUM_MESSAGES * 5 // 4), moments.uniform(0.0, 0.02))
    try:
        push(store.stub, NAME, files, f"push-{number}", killer)
        got_through = True
    except grpc.RpcError:
        got_through = False
    killer.wait()
    store.process.wait()
    return got_through


def resume(store, files, number, state):
    """What a client does after a crash: the same calls again. Then every byte is there."""
    if state != "ACTIVE":
        assert store.stub.ResolveVersion(pb.ResolveVersionRequest(name=NAME)).version == number - 1
    version = push(store.stub, NAME, files, f"push-{number}")
    assert (version.version, pb.VersionState.Name(version.state)) == (number, "ACTIVE")
    for path, data in files.items():
        assert read(store.stub, f"{NAME}@{number}", path) == data


def state_at_rest(data_dir, number):
    """The state of version `number` after the store's own recovery, which must leave all whole."""
    place = PlaceSettings(data_dir=data_dir)
    with open_store(place, max_upload_bytes=1 << 30) as store:
        store.uploads.recover()
        assert store.check_integrity() == []
        versions = store.versions.list(store.adapters.list(None, 0, "").rows[0].name, 0, "").rows
    states = {version.version: version.state.value for version in versions}
    assert all(states[earlier] == "ACTIVE" for earlier in range(1, number))
    return states.get(number, "absent")


def test_kill_at_random_moments_then_resume(tmp_path):
    data_dir, log = tmp_path / "store", tmp_path / "log"
    moments = random.Random(20)
    seen = []
    files, state = large_adapter_files(FILE_BYTES, seed=1), "first"
    with StoreProcess(data_dir, log) as store:
        register(store.stub)
        push(store.stub, NAME, files, "push-1")
    for number in range(2, NUM_KILLS + 2):
        with StoreProcess(data_dir, log) as store:
            if seen:
                resume(store, files, number - 1, state)
            files = large_adapter_files(FILE_BYTES, seed=number)
            got_through = push_and_kill(store, files, number, moments)
        state = state_at_rest(data_dir, number)
        assert state == "ACTIVE" if got_through else state in ("absent", "CREATING", "ACTIVE")
        seen.append(state)
    with StoreProcess(data_dir, log) as store:
        resume(store, files, NUM_KILLS + 1, state)
    assert state_at_rest(data_dir, NUM_KILLS + 2) == "absent"
    print(f"after {len(seen)} times kill -9: {dict(Counter(seen))}")
    assert seen.count("CREATING") >= NUM_KILLS // 4, f"too few kills in the middle of an upload: {seen}"
