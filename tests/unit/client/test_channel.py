import pytest

from client.channel import open_channel
from client.errors import MultiloraError


@pytest.mark.parametrize(
    "address", ["127.0.0.1:7000", "store.example:1", "[::1]:65535", "dns:///store:7001", "unix:/run/store"]
)
async def test_addresses(address):
    await open_channel(address).close()


@pytest.mark.parametrize(
    "address",
    ["", "localhost", "localhost:", ":7000", "localhost:0", "localhost:99999", "localhost:x", "http://x:7000",
     "x:1:2", "x:\N{SUPERSCRIPT TWO}", "\udcff:1", "x y\n:1"],
)  # fmt: skip
async def test_what_is_no_address_is_refused_before_any_call(address):
    with pytest.raises(MultiloraError, match="HOST:PORT") as caught:
        open_channel(address)
    assert (caught.value.reason, caught.value.field) == ("INVALID_FIELD", "address")
