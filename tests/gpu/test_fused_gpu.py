"""The fused LoRA kernels compiled for the device, and whole steps through them, replayed and eager."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("peft")

from kernels.tuning import FusedTiles
from services.inference.batch import make_batch
from services.inference.model.last_tokens import LastTokens
from tests.fused_checks import FUSED_CASES, RUNS, SMALL_TILES, check_fused, check_rows_alone, check_same_bits
from tests.gpu.step_graphs import make_decode_graphs
from tests.integration.inference.architectures import ARCHITECTURES, TinyModel
from tests.integration.inference.decode_step_checks import MAX_ROWS, DecodeWorld
from tests.integration.inference.paged_decoder import PAGE_TOKENS

CUDA = torch.device("cuda")
EVERY_KERNEL = pytest.mark.parametrize("kernel", RUNS)
EVERY_DTYPE = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)


@EVERY_KERNEL
@EVERY_DTYPE
@pytest.mark.parametrize("name", FUSED_CASES)
@pytest.mark.parametrize("tiles", [SMALL_TILES, None], ids=["small", "served"])
def test_the_kernels_are_right(kernel: str, dtype: torch.dtype, name: str, tiles: FusedTiles | None):
    check_fused(kernel, name, dtype, "cuda", tiles)


@EVERY_KERNEL
@EVERY_DTYPE
def test_the_same_bits_every_time(kernel: str, dtype: torch.dtype):
    for name in ("uniform", "skewed", "prefill"):
        check_same_bits(kernel, name, dtype, "cuda")


@EVERY_DTYPE
def test_a_row_has_the_same_bits_in_a_mixed_batch_and_alone(dtype: torch.dtype):
    check_rows_alone(dtype, "cuda")


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda architecture: architecture.name)
def test_fused_steps_give_the_separate_kernels_logits(tmp_path: Path, architecture: TinyModel) -> None:
    world = DecodeWorld(architecture, tmp_path, CUDA)
    fused = world.paged.fused(tmp_path / "model")
    graphs = make_decode_graphs(fused, LastTokens(MAX_ROWS, CUDA))
    for rows in (slice(None), slice(0, 2), slice(3, 6), slice(4, 5), slice(0, 9)):
        world.check_step(graphs.run, world.streams[rows])
    world.check_reload(graphs.run)
    streams = [world.streams[row] for row in (0, 2, 5, 6)]
    world.check_step(
        lambda slices: fused.forward(make_batch(slices, PAGE_TOKENS, CUDA)), streams, [3, 9, 1, 2]
    )
