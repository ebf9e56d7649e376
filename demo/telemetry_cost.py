"""`python -m demo.telemetry_cost`: what telemetry costs, as a ratio within one run.

Two inference services of the demo's model stand on one store: one as it comes, the other with metrics that
are scraped each second and every request traced to a collector. The same streams go to each in turn; a pair
of passes gives a ratio. On a machine that does other work, the ratio by CPU time is the one to read.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import grpc

from client import Delta, InferenceClient, SamplingParams
from demo.__main__ import make_console, run_until_signalled
from demo.processes import ServiceProcess
from demo.stack import adapter_name, publish_adapters, running_stack, serve_arguments
from demo.tasks import TASKS

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_READY_S = 120.0
_SCRAPE_EVERY_S = 1.0
_PROMPT_IDS = tuple(range(16, 32))


class CountingCollector(grpc.GenericRpcHandler):
    """Takes spans and throws them away, unread: a real one reads them on another machine."""

    def __init__(self) -> None:
        self.received_bytes = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Handles Export alone."""
        if handler_call_details.method != _EXPORT:
            return None
        return grpc.unary_unary_rpc_method_handler(self._export)

    def _export(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        self.received_bytes += len(request)
        return b""


@dataclass(frozen=True, slots=True)
class Rate:
    """Tokens of one pass by the clock, and by the CPU seconds of the service's processes."""

    per_s: float
    per_cpu_s: float


async def measure(service: ServiceProcess, options: argparse.Namespace) -> Rate:
    """Streams at once, on adapters in turn, all of one length."""
    names = [adapter_name(task.adapter) for task in TASKS[:8]]
    sampling = SamplingParams(max_tokens=options.tokens, temperature=0.0, ignore_eos=True)
    async with InferenceClient(service.address) as client:
        await client.wait_until_ready(_READY_S)

        async def one(adapter: str) -> int:
            events = client.generate(adapter=adapter, token_ids=_PROMPT_IDS, sampling=sampling)
            return sum([len(event.token_ids) async for event in events if isinstance(event, Delta)])

        began_s, cpu_before_s = time.monotonic(), service.cpu_s()
        counts = await asyncio.gather(*(one(names[index % 8]) for index in range(options.streams)))
        seconds, cpu_s = time.monotonic() - began_s, service.cpu_s() - cpu_before_s
    return Rate(sum(counts) / seconds, sum(counts) / cpu_s)


async def scrape_regularly(address: str) -> None:
    """As Prometheus does, but more often, until it is cancelled."""

    def scrape() -> int:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            return len(answer.read())

    while True:
        await asyncio.to_thread(scrape)
        await asyncio.sleep(_SCRAPE_EVERY_S)


async def run(options: argparse.Namespace) -> int:
    """Prints each pair's ratios and their medians; 1 if no span arrived."""
    console = make_console()
    collector = CountingCollector()
    sink = grpc.server(ThreadPoolExecutor(1), handlers=(collector,))
    endpoint = f"http://127.0.0.1:{sink.add_insecure_port('127.0.0.1:0')}"
    sink.start()
    async with running_stack(console.print) as stack:
        await publish_adapters(stack, lambda line: None)
        with tempfile.TemporaryDirectory(prefix="multilora-") as temporary:
            directory = Path(temporary)
            flags = ("--metrics-port", "0", "--otlp-endpoint", endpoint)
            arguments = (*serve_arguments(stack.store.address, directory, False), *flags)
            watched = ServiceProcess("the watched inference service", arguments, directory / "serve.log")
            try:
                await watched.start(_READY_S)
                pairs = await _pairs(stack.server, watched, options)
            finally:
                await watched.stop()
    sink.stop(None).wait()
    for what, ratios in (
        ("CPU time", [on.per_cpu_s / off.per_cpu_s for off, on in pairs]),
        ("the clock", [on.per_s / off.per_s for off, on in pairs]),
    ):
        console.print(
            f"tokens by {what}, telemetry on over off: median {statistics.median(ratios):.3f} of "
            f"{len(ratios)} pairs, {min(ratios):.3f} to {max(ratios):.3f}"
        )
    console.print(f"{collector.received_bytes:,} bytes of spans")
    return 0 if collector.received_bytes else 1


async def _pairs(
    plain: ServiceProcess, watched: ServiceProcess, options: argparse.Namespace
) -> list[tuple[Rate, Rate]]:
    """(off, on) of each pair; the first pass of each is for nothing: it loads the adapters."""
    found = re.search(r"metrics are at http://(\S+)/metrics", watched.log_path.read_text())
    assert found is not None, "it says where its metrics are"
    pairs: list[tuple[Rate, Rate]] = []
    scraping = asyncio.create_task(scrape_regularly(found[1]))
    try:
        for index in range(options.pairs + 1):
            # Which goes first changes, so that a machine that grows slower favours neither.
            order = (plain, watched) if index % 2 else (watched, plain)
            rates = {each: await measure(each, options) for each in order}
            if index:
                off, on = rates[plain], rates[watched]
                pairs.append((off, on))
                print(
                    f"tokens a second off {off.per_s:,.0f}, on {on.per_s:,.0f}; "
                    f"a CPU second off {off.per_cpu_s:,.0f}, on {on.per_cpu_s:,.0f}",
                    flush=True,
                )
    finally:
        scraping.cancel()
        await asyncio.gather(scraping, return_exceptions=True)
    return pairs


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs."""
    parser = argparse.ArgumentParser(prog="python -m demo.telemetry_cost", description=__doc__)
    parser.add_argument("--pairs", type=int, default=12, help="pairs of passes (default: 12)")
    parser.add_argument("--streams", type=int, default=16, help="streams of a pass (default: 16)")
    parser.add_argument("--tokens", type=int, default=100, help="tokens of a stream (default: 100)")
    return run_until_signalled(run(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
