"""gRPC errors as a client sees them, made without a server."""

import grpc

from services.common.errors import ServiceError
from services.common.interceptors import to_status


def rpc_error(code: grpc.StatusCode, message: str = "", *, details: bytes = b"") -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", details)) if details else grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=message)


def rpc_error_of(error: ServiceError) -> grpc.aio.AioRpcError:
    """What the client gets when a service raises `error`."""
    details = to_status(error).SerializeToString()
    return rpc_error(grpc.StatusCode[error.code.value], error.message, details=details)
