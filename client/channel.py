"""Opens gRPC channels with the limits and the reconnect pace that both services expect."""

from typing import cast

import grpc

from client.credentials import Credentials
from client.errors import invalid
from services.common.authorized_channel import AuthorizedChannel

DEFAULT_SERVER = "127.0.0.1:7000"
DEFAULT_STORE = "127.0.0.1:7001"

_OPTIONS = [
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.max_send_message_length", 4 << 20),
    # A restarted server should be found within a second, not after gRPC's default back-off of minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]

_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "xds:")


def open_channel(address: str, credentials: Credentials | None = None) -> grpc.aio.Channel:
    """A channel to HOST:PORT, or to a gRPC target such as `dns:///HOST:PORT`; plain text by default.

    Connects when the first call is made. Raises MultiloraError for what can be no address, and for
    credentials that cannot be used there.
    """
    if not _is_address(address):
        raise invalid("address", f"{address!r} is no address: give HOST:PORT, for example {DEFAULT_SERVER}")
    credentials = credentials or Credentials()
    metadata, tls = credentials.metadata(address), credentials.channel_credentials()
    if tls is None:
        channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
    else:
        channel = grpc.aio.secure_channel(address, tls, options=_OPTIONS)
    return cast(grpc.aio.Channel, AuthorizedChannel(channel, metadata))


def _is_address(address: str) -> bool:
    if not address.isprintable():
        return False
    if address.startswith(_SCHEMES):
        return True
    # gRPC itself would take port 443 where none is given, and 34463 for 99999.
    host, _, port = address.rpartition(":")
    is_host = bool(host) and "/" not in host and (":" not in host or host.startswith("["))
    return is_host and port.isascii() and port.isdecimal() and 0 < int(port) <= 65535
