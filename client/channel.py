"""Opens gRPC channels with the limits and the reconnect pace that both services expect."""

import grpc

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


def open_channel(address: str) -> grpc.aio.Channel:
    """A plaintext channel to HOST:PORT; connects when the first call is made."""
    return grpc.aio.insecure_channel(address, options=_OPTIONS)
