"""Steps with chunks over their buffer, by Triton in its interpreter, against the decoder by torch ops."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

if torch.cuda.is_available():
    pytest.skip("compiled Triton takes no CPU tensors; tests/gpu runs the graphs", allow_module_level=True)

from services.inference.batch import Slice
from services.inference.layer_gates import OPEN_GATES, LoadGates
from services.inference.model.last_tokens import LastTokens
from services.inference.model.mixed_buffer import MixedBuffer
from services.inference.model.mixed_graph import MixedGraphs, MixedStep
from services.inference.model.mixed_shape import MixedShape
from services.inference.model.rank_capacities import RankCapacities
from services.inference.model.sites import site_layers
from services.inference.model.step_limits import StepLimits
from tests.integration.inference.architectures import ARCHITECTURES
from tests.integration.inference.decode_step_checks import (
    MAX_CONTEXT_TOKENS,
    DecodeWorld,
    Run,
    from_last,
)
from tests.integration.inference.mixed_step_checks import DORA, MAX_MIX_TOKENS, MIXES, check_mix
from tests.integration.inference.paged_decoder import PAGE_TOKENS
from tests.integration.inference.triton_decoder import TritonDecoder
from tests.unit.inference.step_log import StepLog

CPU = torch.device("cpu")
MAX_SEQUENCES = 8
WINDOWED = 3


class World:
    """A world, and `run`, which pads steps to one size and cuts adapters' rows into tiles of `tile_rows`."""

    def __init__(self, number: int, directory: Path, *, is_fused: bool, tile_rows: int = 16) -> None:
        self.world = DecodeWorld(ARCHITECTURES[number], directory, CPU)
        paged = self.world.paged
        triton = TritonDecoder(paged, directory / "model", is_fused=is_fused)
        query_rows = triton.attention.query_tile_rows
        self._shape = MixedShape(MAX_MIX_TOKENS + 4, MAX_SEQUENCES, tile_rows, query_rows)
        max_pages = MAX_SEQUENCES * MAX_CONTEXT_TOKENS // PAGE_TOKENS
        self._buffer = MixedBuffer([self._shape], max_pages, PAGE_TOKENS, CPU)
        self.last_tokens = LastTokens(MAX_SEQUENCES, CPU)
        self._logits_MV = torch.full((MAX_SEQUENCES, triton.decoder.vocab_size), torch.nan)
        parts = triton.decoder, triton.attention, triton.sgmv, self._buffer, self.last_tokens
        self._step = MixedStep(*parts, self._logits_MV)
        self._capacities = RankCapacities(paged.table)
        self.gates = OPEN_GATES

    def run(self, slices: Sequence[Slice]) -> Tensor:
        self._buffer.fill(slices, self._shape)
        self._step.launch(self._shape, self._capacities.least(slices), self.gates)
        return self._logits_MV[: sum(part.wants_logits for part in slices)]

    def check(self, names: Sequence[str], run: Run | None = None) -> None:
        for name in names:
            check_mix(self.world, run or self.run, *MIXES[name])


class LaunchAgain:
    """A Capture whose graphs launch anew, as graphs do."""

    def __init__(self, launch: Callable[[], None] | None = None) -> None:
        self._launch = launch

    def capture(self, launch: Callable[[], None]) -> "LaunchAgain":
        return LaunchAgain(launch)

    def replay(self) -> None:
        assert self._launch is not None
        self._launch()

    def synchronize(self) -> None:
        """Nothing is under way."""


@pytest.mark.parametrize("is_fused", [False, True], ids=["separate", "fused"])
def test_every_mix_gives_the_decoder_s_logits(tmp_path: Path, is_fused: bool) -> None:
    World(WINDOWED, tmp_path, is_fused=is_fused).check(list(MIXES))


@pytest.mark.parametrize("is_fused", [False, True], ids=["separate", "fused"])
def test_so_it_does_in_tiles_of_larger_steps(tmp_path: Path, is_fused: bool) -> None:
    World(4, tmp_path, is_fused=is_fused, tile_rows=64).check(["beside_decodes"])


def test_decoding_rows_take_their_tokens_from_the_step_before(tmp_path: Path) -> None:
    world = World(2, tmp_path, is_fused=False)
    world.check(["beside_decodes"], from_last(world.run, world.last_tokens))


def test_a_step_passes_the_gates_before_the_layers_that_they_guard(tmp_path: Path) -> None:
    world, log = World(0, tmp_path, is_fused=True), StepLog()
    num_layers = world.world.paged.config.num_layers
    world.gates = LoadGates(range(num_layers + 1), log.make_gate)
    world.check(["a_prompt_alone"])
    assert log.take() == [f"steps: wait gate {gate}" for gate in range(world.gates.num_gates)]


def test_graphs_take_what_they_have_room_for_and_wait_for_their_own_adapters_alone(tmp_path: Path) -> None:
    world, log = DecodeWorld(ARCHITECTURES[WINDOWED], tmp_path, CPU), StepLog()
    triton = TritonDecoder(world.paged, tmp_path / "model", is_fused=False)
    gates = LoadGates(site_layers(world.paged.config), log.make_gate)
    logits_MV = torch.full((MAX_SEQUENCES, triton.decoder.vocab_size), torch.nan)
    limits = StepLimits(MAX_MIX_TOKENS, MAX_SEQUENCES, MAX_CONTEXT_TOKENS, PAGE_TOKENS)
    last_tokens = LastTokens(MAX_SEQUENCES, CPU)
    graphs = MixedGraphs(triton.decoder, gates, last_tokens, LaunchAgain(), logits_MV, limits)
    for num_slices, num_tokens, fits in ((1, 25, True), (8, 3, True), (1, 26, False), (9, 1, False)):
        part = Slice([0] * num_tokens, 0, [0] * 8, 0, wants_logits=True)
        assert graphs.takes([part] * num_slices) is fits, (num_slices, num_tokens)
    adapter = world.streams[DORA].adapter_index
    gates.begin(adapter, log.make_end())
    check_mix(world, graphs.run, [(0, 3), (2, 1)], ())
    assert log.take() == []
    check_mix(world, graphs.run, [(0, 3), (DORA, 2)], ())
    assert log.take() == [f"steps: wait gate {gate}" for gate in range(gates.num_gates)]
    gates.end(adapter)
    check_mix(world, graphs.run, [(0, 1), (DORA, 2)], (0,))
    assert log.take() == []
