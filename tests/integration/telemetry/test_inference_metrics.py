"""The metrics endpoint of an inference service over a fake engine, scraped on loopback."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from dataclasses import fields

import grpc
import pytest

from protos.multilora.v1 import inference_pb2 as pb
from protos.multilora.v1 import inference_pb2_grpc as pb_grpc
from services.common.histogram import SIZES, Histogram
from services.inference.front_end import FrontEnd
from services.inference.messages import (
    AdapterInfo,
    EngineMetrics,
    EngineStats,
    GetMetrics,
    ListResident,
    Reply,
    ResidencyState,
)
from services.inference.settings import Settings
from tests.fakes import FakeEngine, FakeStore, generate
from tests.integration.inference.served import SUPPORT, read_all, read_model, write_model_dir
from tests.integration.telemetry.scrape import documented, families, scrape, value

STATS = EngineStats(**{field.name: index + 1 for index, field in enumerate(fields(EngineStats))})


def engine_metrics() -> EngineMetrics:
    sizes = Histogram(SIZES)
    sizes.observe(3)
    load = Histogram()
    load.observe(0.5)
    states = {ResidencyState.DEVICE: 4, ResidencyState.HOST: 9}
    return EngineMetrics(STATS, states, sizes, sizes, {"store": load, "host": load}, 12345)


def running(name: str, running: int, waiting: int) -> AdapterInfo:
    return AdapterInfo(
        name, SUPPORT.key, ResidencyState.DEVICE, False, 8, 10, 10, running, waiting, last_used_s=0.0
    )


RESIDENT = (
    running("tenants/acme/adapters/support/versions/3", 2, 1),
    running("tenants/acme/adapters/support/versions/2", 1, 0),
    running("tenants/beta/adapters/tone/versions/1", 0, 5),
    running("tenants/beta/adapters/idle/versions/1", 0, 0),
)


def script(command):
    """An engine that generates three tokens and knows its metrics."""
    if isinstance(command, GetMetrics):
        yield (Reply(command.call_id, engine_metrics()),)
    elif isinstance(command, ListResident):
        yield (Reply(command.call_id, RESIDENT),)
    else:
        yield from generate([5, 6, 7])(command)


class Served:
    """A front end at work, and the address of its metrics."""

    def __init__(self, engine: FakeEngine, stub: pb_grpc.InferenceServiceStub, metrics: str) -> None:
        self.engine, self.stub, self.metrics = engine, stub, metrics

    async def scrape(self):
        return await asyncio.to_thread(scrape, self.metrics)


@pytest.fixture
async def serve(tmp_path, caplog) -> AsyncIterator:
    """Starts front ends; stops them at the end."""
    caplog.set_level("INFO")
    runs = []

    async def start(**settings) -> Served:
        engine, announced = FakeEngine(script), asyncio.Queue()
        given = Settings(
            model=write_model_dir(tmp_path),
            listen="127.0.0.1:0",
            base_model="demo",
            metrics_port=0,
            **settings,
        )
        store = FakeStore({"acme/support": SUPPORT})
        front_end = FrontEnd(given, read_model(given.model), store, lambda: engine, announced.put_nowait)
        run = asyncio.create_task(front_end.run())
        channel = grpc.aio.insecure_channel(await asyncio.wait_for(announced.get(), 10))
        runs.append((run, channel))
        metrics = re.search(r"metrics are at http://(\S+)/metrics", caplog.text)[1]
        return Served(engine, pb_grpc.InferenceServiceStub(channel), metrics)

    yield start
    for run, channel in runs:
        await channel.close()
        if not run.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(run, 20)


async def test_a_scrape_tells_what_requests_got_and_what_the_engine_does(serve):
    served = await serve()
    responses = await read_all(served.stub.Generate(pb.GenerateRequest(adapter="acme/support", text="hi")))
    num_prompt_tokens = responses[0].started.num_prompt_tokens
    await read_all(served.stub.Generate(pb.GenerateRequest(text="hi")))
    samples = await served.scrape()
    assert value(samples, "multilora_tokens_total", tenant="acme", kind="prompt") == num_prompt_tokens
    assert value(samples, "multilora_tokens_total", tenant="acme", kind="generated") == 3
    assert value(samples, "multilora_tokens_total", tenant="_none", kind="generated") == 3
    assert value(samples, "multilora_time_to_first_token_seconds_count") == 2
    assert value(samples, "multilora_inter_token_seconds_count") == 4
    assert value(samples, "multilora_queue_seconds_sum") == 0.5
    assert value(samples, "multilora_adapter_wait_seconds_sum") == 1.0
    assert value(samples, "multilora_rpc_duration_seconds_count", method="Generate", code="OK") == 2
    assert value(samples, "multilora_engine_up") == 1
    assert value(samples, "multilora_requests_queued") == STATS.queued_requests
    assert value(samples, "multilora_pool_pages", use="kv") == STATS.kv_pages
    assert value(samples, "multilora_pool_pages", use="adapter") == STATS.adapter_pages
    assert value(samples, "multilora_adapters", residency="DEVICE") == 4
    assert value(samples, "multilora_adapters", residency="LOADING") == 0
    assert value(samples, "multilora_adapter_hits_total", tier="disk") == STATS.disk_hits
    assert value(samples, "multilora_adapter_evictions_total", tier="device") == STATS.device_evictions
    assert value(samples, "multilora_adapter_load_seconds_sum", source="store") == 0.5
    assert value(samples, "multilora_adapter_fetched_bytes_total") == 12345
    assert value(samples, "multilora_batch_requests_bucket", le="4.0") == 1
    assert value(samples, "multilora_batch_adapters_sum") == 3
    assert value(samples, "multilora_preemptions_total") == STATS.preemptions
    assert not any(name.startswith("vllm:") for name, _ in samples)
    assert not any("hi" in dict(labels).values() for _, labels in samples), "no prompt is a label"


async def test_vllms_names_are_there_when_asked_for(serve):
    served = await serve(vllm_metrics=True, max_batch_requests=48)
    await read_all(served.stub.Generate(pb.GenerateRequest(text="hi")))
    samples = await served.scrape()
    assert families(samples) == documented("Inference")
    assert value(samples, "vllm:num_requests_waiting") == STATS.queued_requests
    assert value(samples, "vllm:kv_cache_usage_perc") == STATS.kv_pages / STATS.total_pages
    (labels,) = [dict(labels) for name, labels in samples if name == "vllm:lora_requests_info"]
    assert labels == {
        "max_lora": "48",
        "running_lora_adapters": "acme/support",
        "waiting_lora_adapters": "acme/support,beta/tone",
    }


async def test_a_scrape_without_an_engine_says_so_and_tells_the_rest(serve):
    served = await serve()
    # It drains for as long as the stream runs, so the endpoint outlives the engine.
    served.engine._script = lambda command: ()
    call = served.stub.Generate(pb.GenerateRequest(text="hi"))
    scraping = asyncio.create_task(served.scrape())
    while not isinstance(await served.engine.next_command(), GetMetrics):
        pass
    served.engine.die()
    samples = await scraping
    assert value(samples, "multilora_engine_up") == 0
    assert value(samples, "multilora_time_to_first_token_seconds_count") == 0
    assert not any(name == "multilora_pool_pages" for name, _ in samples)
    call.cancel()
