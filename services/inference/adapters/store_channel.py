"""Opens channels to the adapter store, with TLS and this service's own token as the link says.

Each call also carries the trace of whoever makes it.

Must not know stubs. The token is read again for each call, so that a new one needs no restart.
"""

from collections.abc import Callable
from typing import cast

import grpc

from services.common.authorized_channel import AuthorizedChannel, Metadata
from services.common.trace_context import trace_metadata
from services.inference.adapters.store_link import StoreLink

_OPTIONS = (
    ("grpc.max_receive_message_length", 4 << 20),
    # Notices a store whose machine is gone, in the middle of a read too.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A store that is back should be found within a second: while it is away, nothing new is heard.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


def open_channel(link: StoreLink) -> grpc.Channel:
    """A channel for threads. Raises OSError if a file cannot be read."""
    tls, address = _tls(link), link.address
    channel = (
        grpc.insecure_channel(address, options=_OPTIONS)
        if tls is None
        else grpc.secure_channel(address, tls, options=_OPTIONS)
    )
    return cast(grpc.Channel, AuthorizedChannel(channel, _metadata_of(link)))


def open_aio_channel(link: StoreLink) -> grpc.aio.Channel:
    """A channel for the running event loop. Raises OSError if a file cannot be read."""
    tls, address = _tls(link), link.address
    channel = (
        grpc.aio.insecure_channel(address, options=_OPTIONS)
        if tls is None
        else grpc.aio.secure_channel(address, tls, options=_OPTIONS)
    )
    return cast(grpc.aio.Channel, AuthorizedChannel(channel, _metadata_of(link)))


def _metadata_of(link: StoreLink) -> Callable[[], Metadata]:
    """This service's token and the trace of whoever makes the call."""
    return lambda: (*link.metadata(), *trace_metadata())


def _tls(link: StoreLink) -> grpc.ChannelCredentials | None:
    if link.ca_file is None:
        return None
    return grpc.ssl_channel_credentials(
        link.ca_file.read_bytes(),
        None if link.key_file is None else link.key_file.read_bytes(),
        None if link.cert_file is None else link.cert_file.read_bytes(),
    )
