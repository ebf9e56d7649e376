import pytest
import torch

from services.inference.engine_parts import build_engine
from services.inference.settings import Settings
from tests.unit.inference.model.tiny_checkpoint import write_checkpoint


class NoReader:
    """Nothing is read: the engine is not built."""

    def read(self, version_name, file, to, cancelled):
        raise AssertionError

    def close(self):
        raise AssertionError


def test_a_pool_that_is_too_large_names_its_flag(tmp_path):
    write_checkpoint(tmp_path)
    with pytest.raises(ValueError, match=r"--pool-bytes: .* more than this machine has"):
        build_engine(Settings(model=tmp_path, pool_bytes=1 << 60), lambda completion: None, NoReader())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_names_its_flag(tmp_path):
    with pytest.raises(ValueError, match="--device"):
        build_engine(Settings(model=tmp_path, device="cuda"), lambda completion: None, NoReader())
