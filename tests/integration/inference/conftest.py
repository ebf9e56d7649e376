import pytest

from tests.fakes import FakeEngine, silent
from tests.integration.inference.served import CHAT_TEMPLATE, read_model, serve, write_model_dir


@pytest.fixture
def model(tmp_path):
    return read_model(write_model_dir(tmp_path, chat_template=CHAT_TEMPLATE))


@pytest.fixture
async def served(model):
    async with serve(model, FakeEngine(silent)) as served:
        yield served
