"""A real server with TLS: who can connect, and that renewed files are taken without a restart."""

import os

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.server import Server
from services.common.server_settings import ServerSettings
from services.common.serving import credentials_of
from tests.certificates import Authority

SERVICE = "multilora.test"


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def settings(pair, client_ca=None):
    return ServerSettings(tls_cert_file=pair.cert, tls_key_file=pair.key, tls_client_ca_file=client_ca)


async def started(server_settings):
    server = Server("127.0.0.1:0", SERVICE, credentials=credentials_of(server_settings))
    return server, await server.start()


async def check(address, ca_file, pair=None):
    """The health of the server, over a new connection."""
    credentials = grpc.ssl_channel_credentials(
        ca_file.read_bytes(),
        None if pair is None else pair.key.read_bytes(),
        None if pair is None else pair.cert.read_bytes(),
    )
    # Channels with the same arguments share connections; a pool of its own makes a new one.
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return (await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)).status


async def fails(call) -> bool:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_server_with_tls_is_known_by_its_ca_alone(authority, tmp_path):
    server, address = await started(settings(authority.issue("server")))
    try:
        assert await check(address, authority.ca_file) == health_pb2.HealthCheckResponse.NOT_SERVING
        assert await fails(check(address, Authority(tmp_path, "stranger").ca_file))
        async with grpc.aio.insecure_channel(address) as channel:
            assert await fails(
                health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            )
    finally:
        await server.inner.stop(None)


async def test_mutual_tls_lets_in_only_certificates_of_the_clients_ca(authority, tmp_path):
    stranger = Authority(tmp_path, "stranger")
    server, address = await started(settings(authority.issue("server"), authority.ca_file))
    try:
        await check(address, authority.ca_file, authority.issue("client"))
        assert await fails(check(address, authority.ca_file))
        assert await fails(check(address, authority.ca_file, stranger.issue("client")))
    finally:
        await server.inner.stop(None)


async def test_renewed_files_are_taken_by_the_next_connection(authority, tmp_path):
    pair = authority.issue("server")
    server, address = await started(settings(pair))
    try:
        await check(address, authority.ca_file)
        renewed = Authority(tmp_path, "renewed")
        old_key = pair.key.read_bytes()
        renewed.issue("server")
        new_key = pair.key.read_bytes()
        pair.key.write_bytes(old_key)
        _touch(pair)
        # A pair that does not belong together yet is not taken.
        await check(address, authority.ca_file)
        pair.key.write_bytes(new_key)
        _touch(pair)
        await check(address, renewed.ca_file)
        assert await fails(check(address, authority.ca_file))
    finally:
        await server.inner.stop(None)


def _touch(pair) -> None:
    # Two writes in one tick of the file system's clock must differ all the same.
    for path in (pair.cert, pair.key):
        stamp = path.stat().st_mtime_ns + 1_000_000
        os.utime(path, ns=(stamp, stamp))


def test_a_key_of_another_certificate_is_refused_at_start(authority, tmp_path):
    pair = authority.issue("server")
    other = authority.issue("other")
    with pytest.raises(OSError, match="KEY_VALUES_MISMATCH"):
        credentials_of(ServerSettings(tls_cert_file=pair.cert, tls_key_file=other.key))
