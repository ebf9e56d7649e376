"""Two tenants and their tokens in a store process with access control on."""

import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc

from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1 import adapter_store_pb2_grpc as pb_grpc
from services.adapter_store.catalog import Tokens
from services.adapter_store.database_settings import DatabaseSettings
from services.adapter_store.metadata import Database
from services.adapter_store.servicer import wire
from services.adapter_store.store import open_database
from services.common.caller import Role
from tests.adapter_files import BASE_MODEL, adapter_files, declared, layer, lora
from tests.certificates import KeyPair
from tests.integration.adapter_store.store_process import StoreProcess, push

ACME = "tenants/acme"


class Bearer:
    """Adds a token to a stub's calls."""

    def __init__(self, stub, secret: str) -> None:
        self._stub = stub
        self._metadata = (("authorization", f"Bearer {secret}"),) if secret else ()

    def __getattr__(self, name: str):
        call = getattr(self._stub, name)
        return lambda request, **named: call(request, metadata=self._metadata, timeout=20, **named)


class Tenants:
    """The tenant acme, whose things are asked for, and callers of every kind.

    `secrets` are the tokens by caller, as docs/access.md names these. Each `make_` gives something new.
    """

    def __init__(self, store: StoreProcess, secrets: dict[str, str]) -> None:
        self.store, self.secrets = store, secrets
        self._numbers = itertools.count(1)
        self._shared: pb.AdapterVersion | None = None
        self.operator = self.stub("operator")
        self.operator.RegisterBaseModel(pb.RegisterBaseModelRequest(base_model=wire.base_model(BASE_MODEL)))

    def stub(self, caller: str):
        return Bearer(self.store.stub, self.secrets[caller])

    def number(self) -> int:
        return next(self._numbers)

    def make_adapter(self) -> str:
        name = f"{ACME}/adapters/a{self.number()}"
        adapter = pb.Adapter(name=name, base_model=BASE_MODEL.name)
        self.operator.CreateAdapter(pb.CreateAdapterRequest(adapter=adapter))
        return name

    def make_version(self) -> pb.AdapterVersion:
        return push(self.operator, self.make_adapter(), adapter_files())

    def push_again(self, adapter: str) -> None:
        push(self.operator, adapter, self._own_files())

    def make_alias(self, *aliases: str) -> str:
        """An adapter whose `aliases` point at its version 1."""
        adapter = self.make_version().name.partition("/versions/")[0]
        for alias in aliases:
            name = f"{adapter}/aliases/{alias}"
            self.operator.SetAlias(pb.SetAliasRequest(name=name, version=1))
        return adapter

    def shared_version(self) -> pb.AdapterVersion:
        """One version for all who only look."""
        self._shared = self._shared or self.make_version()
        return self._shared

    def make_upload(self, *, sent: bool = False) -> str:
        """An upload of weights that no other one has; all of it sent, or nothing."""
        messages = self.unsent_messages()
        for message in messages if sent else ():
            self.operator.Upload(iter([message]))
        return messages[0].upload_id

    def unsent_messages(self) -> list[pb.UploadRequest]:
        """What sends the files of a new upload, one message each."""
        files = self._own_files()
        request = pb.StartUploadRequest(parent=self.make_adapter(), files=wire.files(declared(files)))
        started = self.operator.StartUpload(request)
        return [
            pb.UploadRequest(
                upload_id=started.upload_id,
                path=each.path,
                write_offset=each.persisted_bytes,
                data=files[each.path][each.persisted_bytes :],
                finish=True,
            )
            for each in started.persisted
            if each.persisted_bytes < len(files[each.path])
        ]

    def _own_files(self) -> dict[str, bytes]:
        return adapter_files(lora(layer(0, "self_attn.q_proj"), seed=self.number()))

    def make_token(self) -> str:
        request = pb.CreateTokenRequest(parent=ACME, role=pb.READER)
        return self.operator.CreateToken(request).token.token_id


@contextmanager
def tenants(directory: Path, *flags: str, tls: tuple[Path, KeyPair] | None = None) -> Iterator[Tenants]:
    """A store process that is guarded, and a token of each kind. `tls`: a CA, a client's certificate."""
    data_dir = directory / "store"
    with closing(open_database(DatabaseSettings(data_dir=data_dir))) as database:
        secrets = _make_tokens(database)
    with StoreProcess(data_dir, directory / "store.log", "--auth", "on", *flags) as store:
        if tls is None:
            yield Tenants(store, secrets)
            return
        ca_file, mine = tls
        credentials = grpc.ssl_channel_credentials(
            ca_file.read_bytes(), mine.key.read_bytes(), mine.cert.read_bytes()
        )
        with grpc.secure_channel(store.address, credentials) as channel:
            store.stub = pb_grpc.AdapterStoreServiceStub(channel)
            yield Tenants(store, secrets)


def _make_tokens(database: Database) -> dict[str, str]:
    tokens = Tokens(database, lambda: datetime.now(UTC))
    long_ago = Tokens(database, lambda: datetime(2001, 1, 1, tzinfo=UTC))
    revoked, token = tokens.create("acme", Role.ADMIN, "", 0)
    tokens.revoke(token.id)
    return {
        "no token": "",
        "expired": long_ago.create("acme", Role.ADMIN, "", 60)[0],
        "revoked": revoked,
        "other tenant": tokens.create("other", Role.ADMIN, "", 0)[0],
        "reader": tokens.create("acme", Role.READER, "", 0)[0],
        "publisher": tokens.create("acme", Role.PUBLISHER, "", 0)[0],
        "admin": tokens.create("acme", Role.ADMIN, "", 0)[0],
        "operator": tokens.create("*", Role.ADMIN, "", 0)[0],
        "service": tokens.create("*", Role.PUBLISHER, "", 0)[0],
    }
