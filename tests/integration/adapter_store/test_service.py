"""Every RPC and every row of the table of errors, over a real gRPC server."""

import asyncio
import os

import google_crc32c
import grpc
import numpy as np
import pytest

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.servicer import wire
from tests.adapter_files import BASE_MODEL, CONFIG, WEIGHTS, adapter_files, declared, layer, lora, prefix
from tests.integration.adapter_store.store_process import chunks, error_info, is_lost_end

NAME = "acme/support"
FULL = "tenants/acme/adapters/support"
Q = layer(0, "self_attn.q_proj")
QA = prefix(Q) + "lora_A.weight"
FILES = adapter_files()


@pytest.fixture
async def store(stub):
    """The stub, with the base model and an adapter."""
    await stub.RegisterBaseModel(pb.RegisterBaseModelRequest(base_model=wire.base_model(BASE_MODEL)))
    adapter = pb.Adapter(name=NAME, base_model=BASE_MODEL.name, display_name="Support", labels={"team": "a"})
    await stub.CreateAdapter(pb.CreateAdapterRequest(adapter=adapter))
    return stub


def start_request(files=FILES, **more):
    return pb.StartUploadRequest(parent=NAME, files=wire.files(declared(files)), **more)


async def send(stub, *requests):
    return await stub.Upload(iter(requests))


async def push(stub, files=FILES):
    started = await stub.StartUpload(start_request(files))
    for file in started.persisted:
        await stub.Upload(chunks(started.upload_id, file.path, files[file.path], file.persisted_bytes))
    return await stub.FinishUpload(pb.FinishUploadRequest(upload_id=started.upload_id))


async def refusal(call, code, reason, field=None):
    """Awaits `call` and checks its error; the ErrorInfo's metadata and the message."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    info = error_info(caught.value)
    assert (caught.value.code().name, info.reason) == (code, reason)
    if field is not None:
        assert info.metadata["field"] == field
    assert caught.value.details()
    return dict(info.metadata), caught.value.details()


async def read(stub, **request):
    return [message async for message in stub.Read(pb.ReadRequest(**request))]


async def test_the_whole_path(store):
    version = await push(store)
    assert version.name == f"{FULL}/versions/1"
    assert (pb.VersionState.Name(version.state), version.rank, version.alpha) == ("ACTIVE", 4, 8.0)
    assert [*version.target_modules] == ["mlp.down_proj", "self_attn.q_proj"]
    assert (version.flags.rslora, version.flags.dora, version.base_model) == (False, False, BASE_MODEL.name)
    assert version.size_bytes == sum(map(len, FILES.values()))
    assert await store.GetVersion(pb.GetVersionRequest(name=f"{NAME}@1")) == version
    for name in (NAME, FULL, f"{NAME}@latest", f"{FULL}/aliases/latest", f"{FULL}/versions/1"):
        assert await store.ResolveVersion(pb.ResolveVersionRequest(name=name)) == version
    listed = await store.ListVersions(pb.ListVersionsRequest(parent=NAME))
    assert [*listed.versions] == [version]
    alias = await store.SetAlias(pb.SetAliasRequest(name=f"{NAME}@production", version=1, expected_version=0))
    assert (alias.name, alias.version) == (f"{FULL}/aliases/production", 1)
    adapter = await store.GetAdapter(pb.GetAdapterRequest(name=NAME))
    assert (adapter.latest_version, [*adapter.aliases], adapter.labels["team"]) == (1, [alias], "a")
    history = await store.ListAliasHistory(pb.ListAliasHistoryRequest(name=alias.name))
    assert [(m.from_version, m.to_version) for m in history.moves] == [(0, 1)]
    assert "127.0.0.1" in history.moves[0].moved_by
    await store.DeleteAlias(pb.DeleteAliasRequest(name=alias.name, expected_version=1))
    disabled = await store.DisableVersion(pb.DisableVersionRequest(name=version.name))
    assert pb.VersionState.Name(disabled.state) == "DISABLED"
    assert await store.EnableVersion(pb.EnableVersionRequest(name=version.name)) == version


async def test_base_models_and_adapters(store):
    model = await store.GetBaseModel(pb.GetBaseModelRequest(base_model=BASE_MODEL.name))
    assert wire.base_model_from(model) == BASE_MODEL
    listed = await store.ListBaseModels(pb.ListBaseModelsRequest())
    assert [*listed.base_models] == [model]
    before = await store.GetAdapter(pb.GetAdapterRequest(name=NAME))
    change = pb.Adapter(name=NAME, display_name="New", etag=before.etag)
    request = pb.UpdateAdapterRequest(adapter=change)
    request.update_mask.paths.append("display_name")
    after = await store.UpdateAdapter(request)
    assert (after.display_name, after.labels["team"]) == ("New", "a")
    await refusal(store.UpdateAdapter(request), "ABORTED", "STALE_ETAG", "adapter.etag")
    change.etag = ""
    everything = await store.UpdateAdapter(pb.UpdateAdapterRequest(adapter=change))
    assert (everything.display_name, dict(everything.labels)) == ("New", {})
    adapters = await store.ListAdapters(pb.ListAdaptersRequest(parent="tenants/acme"))
    assert [*adapters.adapters] == [everything]
    assert not (await store.ListAdapters(pb.ListAdaptersRequest(parent="tenants/zoo"))).adapters


async def test_a_list_of_fat_adapters_goes_in_pages_that_fit_a_message(store):
    labels = {f"{i:063}": "\N{GRINNING FACE}" * 255 for i in range(64)}
    names = {f"tenants/fat/adapters/a{i:02}" for i in range(60)}
    for name in names:
        adapter = pb.Adapter(name=name, base_model=BASE_MODEL.name, labels=labels)
        await store.CreateAdapter(pb.CreateAdapterRequest(adapter=adapter))
    request, seen = pb.ListAdaptersRequest(parent="tenants/fat", page_size=1000), []
    while not seen or request.page_token:
        page = await store.ListAdapters(request)
        seen += [adapter.name for adapter in page.adapters]
        request.page_token = page.next_page_token
    assert seen == sorted(names)


async def test_a_refusal_in_words_that_are_not_ascii_arrives(store):
    """gRPC drops a status whose trailers are over 8 KiB, and says RESOURCE_EXHAUSTED instead."""
    model = wire.base_model(BASE_MODEL)
    model.base_model = "\N{GRINNING FACE}" * 256
    await store.RegisterBaseModel(pb.RegisterBaseModelRequest(base_model=model))
    adapter = pb.Adapter(name="acme/emoji", base_model=model.base_model)
    await store.CreateAdapter(pb.CreateAdapterRequest(adapter=adapter))
    files = adapter_files(base_model_name_or_path="\N{SLEEPY FACE}" * 300)
    started = await store.StartUpload(
        pb.StartUploadRequest(parent="acme/emoji", files=wire.files(declared(files)))
    )
    for file in started.persisted:
        await store.Upload(chunks(started.upload_id, file.path, files[file.path], file.persisted_bytes))
    call = store.FinishUpload(pb.FinishUploadRequest(upload_id=started.upload_id))
    _, message = await refusal(call, "FAILED_PRECONDITION", "BASE_MODEL_MISMATCH", "base_model_name_or_path")
    assert "upload it to an adapter of the right base model" in message


async def test_reading(store):
    files = adapter_files() | {"notes.txt": os.urandom(2_500_000), "empty.txt": b""}
    version = await push(store, files)
    for path, data in files.items():
        for request in ({"name": NAME}, {"key": version.key}):
            messages = await read(store, path=path, **request)
            assert b"".join(m.data for m in messages) == data
            assert all(m.crc32c == google_crc32c.value(m.data) for m in messages)
            assert all(len(m.data) <= 1 << 20 for m in messages)
            assert messages[0].size_bytes == len(data)
            assert messages[0].sha256 == {f.path: f.sha256 for f in version.files}[path]
    part = await read(store, name=NAME, path="notes.txt", read_offset=1_000_001, read_limit=1_200_000)
    assert b"".join(m.data for m in part) == files["notes.txt"][1_000_001:2_200_001]
    rest = await read(store, name=NAME, path="notes.txt", read_offset=2_499_999)
    assert (rest[0].data, rest[0].size_bytes) == (files["notes.txt"][-1:], 2_500_000)
    for field, request in [("read_offset", {"read_offset": 1}), ("read_offset", {"read_offset": -1})]:
        call = read(store, name=NAME, path="empty.txt", **request)
        await refusal(call, "INVALID_ARGUMENT", "INVALID_FIELD", field)
    await refusal(read(store, name=NAME, path="x"), "NOT_FOUND", "FILE_NOT_FOUND", "path")
    await refusal(read(store, key="0" * 64, path=CONFIG), "NOT_FOUND", "VERSION_NOT_FOUND")


async def test_a_damaged_blob_is_data_loss_and_never_whole(store, at_rest, tmp_path):
    version = await push(store)
    (digest,) = (f.sha256 for f in version.files if f.path == WEIGHTS)
    path = tmp_path / "store" / "blobs" / digest[:2] / digest[2:4] / digest
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    got = []

    async def read_on():
        async for message in store.Read(pb.ReadRequest(name=NAME, path=WEIGHTS)):
            got.append(message.data)  # noqa: PERF401 - what came before the error counts

    await refusal(read_on(), "DATA_LOSS", "CORRUPT_BLOB")
    assert len(b"".join(got)) < len(data)
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda s: s.GetAdapter(pb.GetAdapterRequest(name="acme/none")), "ADAPTER_NOT_FOUND"),
        (lambda s: s.GetVersion(pb.GetVersionRequest(name="acme/support@9")), "VERSION_NOT_FOUND"),
        (lambda s: s.ResolveVersion(pb.ResolveVersionRequest(name=NAME)), "VERSION_NOT_FOUND"),
        (lambda s: s.ResolveVersion(pb.ResolveVersionRequest(name="acme/support@x")), "ALIAS_NOT_FOUND"),
        (lambda s: s.DeleteAlias(pb.DeleteAliasRequest(name="acme/support@x")), "ALIAS_NOT_FOUND"),
        (lambda s: s.GetBaseModel(pb.GetBaseModelRequest(base_model="x")), "BASE_MODEL_NOT_FOUND"),
        (lambda s: s.GetUpload(pb.GetUploadRequest(upload_id="x")), "UPLOAD_NOT_FOUND"),
        (lambda s: s.FinishUpload(pb.FinishUploadRequest(upload_id="x")), "UPLOAD_NOT_FOUND"),
        (lambda s: send(s, pb.UploadRequest(upload_id="x", path="y")), "UPLOAD_NOT_FOUND"),
        (
            lambda s: s.CreateAdapter(
                pb.CreateAdapterRequest(adapter=pb.Adapter(name="a/b", base_model="x"))
            ),
            "BASE_MODEL_NOT_FOUND",
        ),
    ],
)
async def test_not_found(store, call, reason):
    await refusal(call(store), "NOT_FOUND", reason)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda s: s.GetAdapter(pb.GetAdapterRequest(name="Nope")), "name"),
        (lambda s: s.ResolveVersion(pb.ResolveVersionRequest()), "name"),
        (lambda s: s.SetAlias(pb.SetAliasRequest(name="acme/support@latest", version=1)), "name"),
        (lambda s: s.ListAdapters(pb.ListAdaptersRequest(parent="acme")), "parent"),
        (lambda s: s.ListAdapters(pb.ListAdaptersRequest(page_size=-1)), "page_size"),
        (lambda s: s.ListVersions(pb.ListVersionsRequest(parent=NAME, page_token="x")), "page_token"),
        (lambda s: s.StartUpload(pb.StartUploadRequest(parent=NAME)), "files"),
        (lambda s: s.RegisterBaseModel(pb.RegisterBaseModelRequest()), "base_model.base_model"),
        (lambda s: send(s), "upload_id"),
        (lambda s: read(s, path=CONFIG), "name"),
    ],
)
async def test_invalid_fields(store, call, field):
    await refusal(call(store), "INVALID_ARGUMENT", "INVALID_FIELD", field)


async def test_conflicts(store):
    adapter = pb.Adapter(name=NAME, base_model=BASE_MODEL.name)
    await refusal(
        store.CreateAdapter(pb.CreateAdapterRequest(adapter=adapter)), "ALREADY_EXISTS", "ADAPTER_EXISTS"
    )
    other = wire.base_model(BASE_MODEL)
    other.digest = "c" * 64
    call = store.RegisterBaseModel(pb.RegisterBaseModelRequest(base_model=other))
    await refusal(call, "FAILED_PRECONDITION", "BASE_MODEL_CONFLICT", "base_model.digest")
    await push(store)
    await push(store)
    await store.SetAlias(pb.SetAliasRequest(name=f"{NAME}@staging", version=1))
    call = store.SetAlias(pb.SetAliasRequest(name=f"{NAME}@staging", version=2, expected_version=2))
    metadata, message = await refusal(call, "ABORTED", "ALIAS_MOVED", "expected_version")
    assert metadata["current_version"] == "1"
    assert "version 1" in message
    await store.DisableVersion(pb.DisableVersionRequest(name=f"{NAME}@1"))
    call = store.ResolveVersion(pb.ResolveVersionRequest(name=f"{NAME}@staging"))
    await refusal(call, "FAILED_PRECONDITION", "VERSION_NOT_ACTIVE")


async def test_writing(store):
    started = await store.StartUpload(start_request(request_id="r"))
    assert await store.StartUpload(start_request(request_id="r")) == started
    call = store.StartUpload(start_request(adapter_files(r=8), request_id="r"))
    await refusal(call, "INVALID_ARGUMENT", "INVALID_FIELD", "request_id")
    data = FILES[WEIGHTS]
    first = pb.UploadRequest(upload_id=started.upload_id, path=WEIGHTS, data=data[:50])
    assert (await send(store, first)).persisted_bytes == 50
    metadata, message = await refusal(send(store, first), "OUT_OF_RANGE", "WRONG_OFFSET", "write_offset")
    assert metadata["persisted_bytes"] == "50"
    assert "50 bytes" in message
    broken = pb.UploadRequest(
        upload_id=started.upload_id, path=WEIGHTS, write_offset=50, data=data[50:90], crc32c=7
    )
    metadata, _ = await refusal(send(store, broken), "INVALID_ARGUMENT", "CHECKSUM_MISMATCH", "crc32c")
    assert metadata["persisted_bytes"] == "50"
    early = pb.UploadRequest(upload_id=started.upload_id, path=WEIGHTS, write_offset=50, finish=True)
    await refusal(send(store, early), "FAILED_PRECONDITION", "UPLOAD_INCOMPLETE", WEIGHTS)
    strayed = pb.UploadRequest(path=CONFIG, write_offset=60)
    good = pb.UploadRequest(
        upload_id=started.upload_id,
        path=WEIGHTS,
        write_offset=50,
        data=data[50:60],
        crc32c=google_crc32c.value(data[50:60]),
    )
    await refusal(send(store, good, strayed), "INVALID_ARGUMENT", "INVALID_FIELD", "path")
    status = await store.GetUpload(pb.GetUploadRequest(upload_id=started.upload_id))
    assert {p.path: p.persisted_bytes for p in status.persisted} == {CONFIG: 0, WEIGHTS: 60}
    assert status.adapter_version == started.adapter_version == f"{FULL}/versions/1"
    wrong = pb.UploadRequest(
        upload_id=started.upload_id, path=WEIGHTS, write_offset=60, data=b"x" * (len(data) - 60), finish=True
    )
    metadata, _ = await refusal(send(store, wrong), "INVALID_ARGUMENT", "CHECKSUM_MISMATCH", WEIGHTS)
    assert metadata["persisted_bytes"] == "0"
    await store.AbortUpload(pb.AbortUploadRequest(upload_id=started.upload_id))
    await refusal(send(store, first), "NOT_FOUND", "UPLOAD_NOT_FOUND")


NAN = lora(Q)
NAN[QA][0, 0] = np.nan
V = prefix("model.layers.0.self_attn.v_proj") + "lora_A.weight"
MISMATCH = ("FAILED_PRECONDITION", "BASE_MODEL_MISMATCH")
UNSUPPORTED = ("FAILED_PRECONDITION", "UNSUPPORTED_ADAPTER")
MALFORMED = ("INVALID_ARGUMENT", "INVALID_ADAPTER")


@pytest.mark.parametrize(
    ("files", "code", "reason", "field"),
    [
        (adapter_files(base_model_name_or_path="x/y"), *MISMATCH, "base_model_name_or_path"),
        (adapter_files(lora(Q, rank=17), r=17), *MISMATCH, QA),
        (
            adapter_files({V: np.ones((4, 8), np.float32)}),
            *MISMATCH,
            V,
        ),
        (adapter_files(lora(Q) | {QA: np.ones((4, 9), np.float32)}), *MISMATCH, QA),
        (adapter_files(lora(Q, dtype=np.float64)), *UNSUPPORTED, QA),
        (adapter_files(modules_to_save=["lm_head"]), *UNSUPPORTED, "modules_to_save"),
        (adapter_files(NAN), *MALFORMED, QA),
        (adapter_files({QA: np.ones((4, 8), np.float32)}), *MALFORMED, QA),
        (FILES | {WEIGHTS: b"\x80\x04not weights"}, *MALFORMED, WEIGHTS),
        (FILES | {WEIGHTS: b"\xff" * 40}, *MALFORMED, WEIGHTS),
        (FILES | {CONFIG: b"["}, *MALFORMED, CONFIG),
        (FILES | {"x.json": b"PK\x03\x04" + b"0" * 30}, *MALFORMED, "x.json"),
    ],
    ids=range(12),
)  # fmt: skip
async def test_refused_adapters_fail_with_the_same_words(store, files, code, reason, field):
    _, message = await refusal(push(store, files), code, reason, field)
    version = await store.GetVersion(pb.GetVersionRequest(name=f"{NAME}@1"))
    assert (pb.VersionState.Name(version.state), version.status_message) == ("FAILED", message)
    assert message.startswith(field)
    call = store.ResolveVersion(pb.ResolveVersionRequest(name=f"{NAME}@1"))
    await refusal(call, "FAILED_PRECONDITION", "VERSION_NOT_ACTIVE")
    await refusal(read(store, name=f"{NAME}@1", path=CONFIG), "FAILED_PRECONDITION", "VERSION_NOT_ACTIVE")


async def test_a_pickle_is_refused_before_it_is_sent(store):
    call = store.StartUpload(start_request(FILES | {"adapter_model.bin": b"x"}))
    await refusal(call, "INVALID_ARGUMENT", "INVALID_ADAPTER", "adapter_model.bin")


async def test_a_huge_hostile_tensor_name_still_makes_a_status(store):
    name = "\n\ud83d\ude00" * 20_000
    _, message = await refusal(
        push(store, adapter_files({name: np.ones(1, np.float32)})), "INVALID_ARGUMENT", "INVALID_ADAPTER"
    )
    assert len(message) < 1000


async def test_two_writers_of_one_file_never_mix(store):
    data = os.urandom(4 << 20)
    files = FILES | {"notes.txt": data}
    started = await store.StartUpload(start_request(files))
    step = 32 << 10

    def messages():
        for offset in range(0, len(data), step):
            finish = offset + step >= len(data)
            yield pb.UploadRequest(
                upload_id=started.upload_id,
                path="notes.txt",
                write_offset=offset,
                data=data[offset : offset + step],
                finish=finish,
            )

    outcomes = await asyncio.gather(*(store.Upload(messages()) for _ in range(4)), return_exceptions=True)
    won = [outcome for outcome in outcomes if isinstance(outcome, pb.UploadResponse)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, grpc.aio.AioRpcError)]
    assert len(won) + len(lost) == 4
    # A loser still writes when the store refuses it, and then may not learn why.
    assert {error_info(error).reason for error in lost if not is_lost_end(error)} <= {"WRONG_OFFSET"}
    status = await store.GetUpload(pb.GetUploadRequest(upload_id=started.upload_id))
    persisted = {p.path: p.persisted_bytes for p in status.persisted}["notes.txt"]
    request = pb.UploadRequest(upload_id=started.upload_id, path="notes.txt", write_offset=persisted)
    for offset in range(persisted, len(data), step):
        request.write_offset, request.data = offset, data[offset : offset + step]
        await send(store, request)
    await send(
        store,
        pb.UploadRequest(upload_id=started.upload_id, path="notes.txt", write_offset=len(data), finish=True),
    )


async def test_a_cancelled_upload_keeps_what_arrived(store):
    started = await store.StartUpload(start_request())
    arrived = asyncio.Event()

    async def one_then_nothing():
        yield pb.UploadRequest(upload_id=started.upload_id, path=WEIGHTS, data=FILES[WEIGHTS][:64])
        arrived.set()
        await asyncio.Event().wait()

    call = store.Upload(one_then_nothing())
    await arrived.wait()
    persisted = 0
    while not persisted:
        status = await store.GetUpload(pb.GetUploadRequest(upload_id=started.upload_id))
        persisted = {p.path: p.persisted_bytes for p in status.persisted}[WEIGHTS]
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    rest = pb.UploadRequest(
        upload_id=started.upload_id, path=WEIGHTS, write_offset=64, data=FILES[WEIGHTS][64:], finish=True
    )
    assert (await send(store, rest)).persisted_bytes == len(FILES[WEIGHTS])
