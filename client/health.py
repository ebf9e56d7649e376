"""Asks a service whether it serves, by gRPC's standard health check. Knows neither service's RPCs."""

import grpc
from grpc_health.v1 import health_pb2

from client.channel import open_channel
from client.credentials import Credentials
from client.errors import MultiloraError, rpc_errors


async def check_health(address: str, credentials: Credentials | None = None, timeout_s: float = 5.0) -> None:
    """Returns if the service at `address` takes calls. Raises MultiloraError, also if it starts or drains."""
    channel = open_channel(address, credentials)
    try:
        answer = await _check(channel, timeout_s)
    finally:
        await channel.close()
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        raise MultiloraError("UNAVAILABLE", f"{address} is {status}: it is starting or draining")


async def _check(channel: grpc.aio.Channel, timeout_s: float) -> health_pb2.HealthCheckResponse:
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    with rpc_errors():
        answer = await check(health_pb2.HealthCheckRequest(), timeout=timeout_s)
    return answer
