"""Without a CUDA device Triton kernels run in Triton's interpreter.

Chosen here, before any test's imports: what Triton is when it is first imported, it stays, and
libraries that tests use import it too.
"""

import os
from importlib.util import find_spec

import pytest

if find_spec("torch") is not None:
    import torch

    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"

pytest_plugins = ["tests.postgres_server", "tests.s3_server"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the long tests run."""
    parser.addoption(
        "--soak-scale", type=float, default=1.0, help="multiplies the rounds of tests marked `soak`"
    )


@pytest.fixture
def rounds(request: pytest.FixtureRequest):
    """`rounds(n, least=1)`: n rounds at full length, fewer in a short soak."""
    scale: float = request.config.getoption("--soak-scale")

    def scaled(full: int, least: int = 1) -> int:
        return max(least, round(full * scale))

    return scaled
