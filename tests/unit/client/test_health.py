"""`multilora health` against a server that serves, one that does not, and none."""

import pytest
from grpc_health.v1 import health_pb2
from typer.testing import CliRunner

from client.command.app import app
from client.errors import MultiloraError
from client.health import check_health
from services.common.server import Server


@pytest.fixture
async def server():
    server = Server("127.0.0.1:0", "multilora.v1.InferenceService")
    await server.start()
    yield server
    await server.inner.stop(None)


async def test_it_says_whether_the_service_takes_calls(server):
    with pytest.raises(MultiloraError, match=health_pb2.HealthCheckResponse.ServingStatus.Name(2)):
        await check_health(server.address)
    await server.set_serving(True)
    await check_health(server.address)
    await server.inner.stop(None)
    with pytest.raises(MultiloraError, match="is the service running"):
        await check_health(server.address, timeout_s=1.0)


def test_the_command_wants_an_address():
    done = CliRunner().invoke(app, ["health"], env={"MULTILORA_SERVER": "127.0.0.1:1"})
    assert done.exit_code == 2
    assert "--server" in done.output
    done = CliRunner().invoke(app, ["health", "--server", "127.0.0.1:1", "--timeout-s", "0.2"])
    assert isinstance(done.exception, MultiloraError)
