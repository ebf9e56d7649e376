"""The main job, end to end: adapters made by PEFT, streamed from mixed batches, token for token."""

import asyncio
from pathlib import Path

from client import InferenceClient, SamplingParams, StoreClient
from tests.e2e.processes import running_services, wait_idle
from tests.tiny_models import VARIANTS, build_adapter, build_model, greedy_tokens

NUM_TOKENS = 64
# 8 KiB pages: room for the largest adapter and a few streams, not for nine adapters and sixteen.
POOL_BYTES = 48 * 8192


def _prompts(adapter_index: int) -> list[list[int]]:
    return [
        [(7 * adapter_index + 3 * i + 31 * copy) % 256 for i in range(5 + adapter_index)] for copy in (0, 1)
    ]


async def _push_all(store: str, adapters: dict[str, Path]) -> None:
    async with StoreClient(store) as client:
        for name, directory in adapters.items():
            await client.push(directory, f"acme/{name}", alias="production")


async def _stream_all(server: str, wanted: list[tuple[str, list[int]]]) -> list[tuple[int, ...]]:
    sampling = SamplingParams(temperature=0.0, max_tokens=NUM_TOKENS, ignore_eos=True)
    async with InferenceClient(server) as client:

        async def one(name: str, prompt: list[int]) -> tuple[int, ...]:
            adapter = f"acme/{name}" if name else ""
            stream = client.generate(adapter=adapter, token_ids=prompt, sampling=sampling)
            result = await stream.result()
            assert ("/adapters/" + name in result.started.adapter_version) == bool(name)
            return result.token_ids

        return await asyncio.gather(*(one(name, prompt) for name, prompt in wanted))


def test_sixteen_streams_over_nine_adapters_and_the_base_are_peft_s_own_tokens(tmp_path: Path) -> None:
    model_dir = tmp_path / "tiny"
    build_model(model_dir)
    adapters = {name: tmp_path / "adapters" / name for name in VARIANTS}
    for index, (name, variant) in enumerate(VARIANTS.items()):
        build_adapter(model_dir, adapters[name], variant, seed=index)
    names = [*VARIANTS, ""]
    wanted = [(name, prompt) for index, name in enumerate(names) for prompt in _prompts(index)][:16]
    wanted[-1] = ("", wanted[-1][1])
    expected = [
        greedy_tokens(model_dir, adapters[name] if name else None, [prompt], NUM_TOKENS)[0]
        for name, prompt in wanted
    ]
    flags = ("--pool-bytes", str(POOL_BYTES), "--host-cache-bytes", str(400_000))
    with running_services(tmp_path, model_dir, *flags) as services:
        asyncio.run(_push_all(services.store.address, adapters))
        streamed = asyncio.run(_stream_all(services.inference.address, wanted))
        stats = asyncio.run(wait_idle(services.inference.address))
    assert [list(tokens) for tokens in streamed] == expected
    assert stats.cache.device_evictions > 0, stats
    assert stats.cache.host_evictions > 0, stats
    assert stats.preemptions > 0, stats
    assert stats.steps.mixed > 0, stats
