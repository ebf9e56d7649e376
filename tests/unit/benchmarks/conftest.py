from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from benchmarks.shape import TINY
from benchmarks.workbench import Workbench, workbench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    num_threads = torch.get_num_threads()
    with workbench(TINY, "cpu", [TINY.rank] * 4, tmp_path) as bench:
        yield bench
    torch.set_num_threads(num_threads)
