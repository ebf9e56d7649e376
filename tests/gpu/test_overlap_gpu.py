"""Overlapped steps on a real device: the streams of steps in turn, and a host that waits for tokens alone."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("tokenizers")

from benchmarks.local_engine import local_engine
from services.inference.request import SamplingParams
from services.inference.settings import Settings
from tests.overlap_checks import check_same_streams

DEMO = Path(__file__).parents[2] / "demo"


def test_greedy_and_seeded_streams_are_the_same_with_and_without_overlap() -> None:
    check_same_streams("cuda")


# torch says of its own mode that it does not see everything yet.
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(max_tokens=40, temperature=0.0, ignore_eos=True),
        SamplingParams(max_tokens=40, seed=1, top_k=20, top_p=0.9, min_p=0.01, ignore_eos=True),
        SamplingParams(
            max_tokens=40, temperature=0.0, presence_penalty=0.5, repetition_penalty=1.2, ignore_eos=True
        ),
        SamplingParams(max_tokens=40, temperature=0.0, logprobs=3, min_tokens=30, logit_bias=((5, 1.0),)),
    ],
    ids=["greedy", "drawn", "penalised", "logprobs"],
)
def test_no_launch_waits_for_the_device(sampling: SamplingParams) -> None:
    settings = Settings(model=DEMO / "model", device="cuda", pool_bytes=64 << 20)
    with local_engine(settings) as engine:
        streams = [engine.submit((None, [5, 6, 7, 8 + index]), sampling, (1,)) for index in range(3)]
        # What is compiled or allocated on first use is over by then.
        while not all(len(stream.token_ids) >= 4 for stream in streams):
            engine.step()
        try:
            torch.cuda.set_sync_debug_mode("error")
            for _ in range(10):
                engine.step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        engine.finish(streams)
