"""gRPC errors as a client sees them, made without a server."""

import grpc

from services.common.errors import ServiceError
from services.common.interceptors import to_status


def rpc_error(code: grpc.StatusCode, message: str = "", *, details: bytes = b"") -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", details)) if details else grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=message)


def lost_end() -> grpc.aio.AioRpcError:
    """What gRPC aio raises, word for word, where a message is written to a call that the server has ended."""
    return grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL,
        grpc.aio.Metadata(),
        grpc.aio.Metadata(),
        details="Internal error from Core",
        debug_error_string=(
            'Failed "execute_batch": (<grpc._cython.cygrpc.SendMessageOperation object at 0x7f55e16a50b0>,)'
        ),
    )


def rpc_error_of(error: ServiceError) -> grpc.aio.AioRpcError:
    """What the client gets when a service raises `error`."""
    details = to_status(error).SerializeToString()
    return rpc_error(grpc.StatusCode[error.code.value], error.message, details=details)
