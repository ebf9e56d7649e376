"""The way to the store: which settings are refused early, and a store with mutual TLS and tokens reached."""

import pytest

from services.common.errors import ServiceError
from services.inference.adapters.store_client import AsyncStoreClient
from services.inference.adapters.store_link import StoreLink
from tests.certificates import Authority
from tests.integration.access.tenants import tenants


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"cert_file": "cert"}, "give both or neither"),
        ({"cert_file": "cert", "key_file": "key"}, "--store-ca-file"),
        ({"ca_file": "none"}, "--store-ca-file: .* is not a file"),
        ({"token_file": "token", "address": "store.example:1"}, "plain text"),
        ({"token_file": "empty"}, "holds no token"),
    ],
)
def test_what_would_fail_at_each_call_is_refused_at_start(tmp_path, given, says):
    for name, text in (("cert", ""), ("key", ""), ("token", "mlt_1_x\n"), ("empty", "\n")):
        (tmp_path / name).write_text(text)
    address = given.pop("address", "127.0.0.1:1")
    with pytest.raises(ValueError, match=says):
        StoreLink(address, **{name: tmp_path / file for name, file in given.items()}).check()


async def test_a_store_with_mutual_tls_and_tokens(tmp_path):
    authority = Authority(tmp_path)
    server, mine = authority.issue("server"), authority.issue("serve")
    flags = ("--tls-cert-file", server.cert, "--tls-key-file", server.key)
    client_ca = ("--tls-client-ca-file", authority.ca_file)
    token_file = tmp_path / "token"
    with tenants(tmp_path, *map(str, (*flags, *client_ca)), tls=(authority.ca_file, mine)) as world:
        token_file.write_text(world.secrets["service"])
        link = StoreLink(world.store.address, authority.ca_file, mine.cert, mine.key, token_file)
        link.check()
        client = AsyncStoreClient(link, "acme/tiny")
        caller = await client.authenticate(world.secrets["reader"])
        assert (caller.tenant, caller.role) == ("acme", "READER")
        with pytest.raises(ServiceError, match="was revoked") as caught:
            await client.authenticate(world.secrets["revoked"])
        assert caught.value.reason == "BAD_TOKEN"
        # The service's own token is no good any more: that is not its callers' fault.
        token_file.write_text(world.secrets["expired"])
        with pytest.raises(ServiceError) as caught:
            await client.authenticate(world.secrets["reader"])
        assert caught.value.reason == "STORE_UNAVAILABLE"
        await client.close()
