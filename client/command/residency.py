"""`multilora resident`, `load`, `unload` and `stats`: what an inference server holds and does."""

from enum import StrEnum
from typing import Annotated

import typer

from client.command.connection import open_server
from client.command.options import SERVER, AdapterName, Json, NoStore, Server, wait
from client.command.output import print_fields, print_json, print_table, size_text, time_text
from client.names import short_name
from client.serving import (
    Model,
    Residency,
    ResidentAdapter,
    ShadowStats,
    Stats,
    StoreStats,
    Unloaded,
)


class Tier(StrEnum):
    """Where to, or from where."""

    host = "host"
    device = "device"

    @property
    def residency(self) -> Residency:
        """The same as the wire says it."""
        return Residency(self.value.upper())


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    app.command()(resident)
    app.command()(load)
    app.command()(unload)
    app.command()(stats)


def resident(server: Server = SERVER, store: NoStore = "", json: Json = False) -> None:
    """List the adapters that a server holds or is bringing in."""

    async def work() -> list[ResidentAdapter]:
        async with open_server(server) as client:
            return await client.list_resident_adapters()

    adapters = wait(work())
    if json:
        print_json(adapters)
        return
    if not adapters:
        print("no adapter is resident yet")
        return
    print_table(
        ("ADAPTER", "RESIDENCY", "RANK", "DEVICE", "HOST", "RUNNING", "WAITING", "LAST USED"),
        (
            (
                short_name(each.adapter_version),
                each.residency.value + (" pinned" if each.pinned else ""),
                each.rank,
                size_text(each.device_bytes),
                size_text(each.host_bytes),
                each.running_requests,
                each.waiting_requests,
                time_text(each.last_used_time),
            )
            for each in adapters
        ),
    )


def load(
    name: AdapterName,
    tier: Annotated[Tier, typer.Option(help="How near.")] = Tier.device,
    pin: Annotated[bool, typer.Option("--pin", help="Keep it there until it is unloaded.")] = False,
    server: Server = SERVER,
    store: NoStore = "",
    json: Json = False,
) -> None:
    """Bring an adapter in ahead of traffic.

    multilora load acme/reverse --pin
    """

    async def work() -> ResidentAdapter:
        async with open_server(server) as client:
            return await client.load_adapter(name, tier=tier.residency, pin=pin)

    loaded = wait(work())
    if json:
        print_json(loaded)
        return
    print(f"{short_name(loaded.adapter_version)}: {loaded.residency}{', pinned' if loaded.pinned else ''}")


def unload(
    name: AdapterName,
    tier: Annotated[Tier, typer.Option(help="device: keep the host copy; host: free both.")] = Tier.host,
    server: Server = SERVER,
    store: NoStore = "",
    json: Json = False,
) -> None:
    """Wait for an adapter's requests, then free it.

    multilora unload acme/reverse
    """

    async def work() -> Unloaded:
        async with open_server(server) as client:
            return await client.unload_adapter(name, tier=tier.residency)

    freed = wait(work())
    if json:
        print_json(freed)
        return
    print(
        f"freed {size_text(freed.freed_device_bytes)} on the device, "
        f"{size_text(freed.freed_host_bytes)} on the host"
    )


def stats(server: Server = SERVER, store: NoStore = "", json: Json = False) -> None:
    """Show a server's model and counters."""

    async def work() -> tuple[Model, Stats]:
        async with open_server(server) as client:
            return await client.get_model(), await client.get_stats()

    model, counters = wait(work())
    if json:
        print_json({"model": model, "stats": counters})
        return
    _print_stats(model, counters)


def _print_stats(model: Model, stats: Stats) -> None:
    pool, cache, steps = stats.pool, stats.cache, stats.steps
    print_fields(
        (
            ("model", f"{model.base_model} ({model.architecture}, {model.dtype} on {model.device})"),
            ("context", f"{model.max_context_tokens} tokens; adapters up to rank {model.max_rank}"),
            ("pool", f"{pool.total_pages} pages of {size_text(pool.page_bytes)}, {pool.free_pages} free"),
            ("  KV", f"{pool.kv_pages} pages now, {pool.peak_kv_pages} at most"),
            ("  adapters", f"{pool.adapter_pages} pages now, {pool.peak_adapter_pages} at most"),
            ("requests", f"{stats.running_requests} running, {stats.queued_requests} queued"),
            (
                "  ended",
                f"{stats.requests.finished} finished, {stats.requests.cancelled} cancelled, "
                f"{stats.requests.failed} failed, {stats.preemptions} preemptions",
            ),
            ("tokens", f"{stats.tokens.prompt} in, {stats.tokens.generated} out"),
            ("steps", f"{steps.total}, of which {steps.mixed} mixed adapters"),
            (
                "  largest",
                f"{steps.max_requests_in_batch} requests, {steps.max_adapters_in_batch} adapters in a batch",
            ),
            (
                "adapters",
                f"{cache.resident_adapters} resident; found on device {cache.device_hits}, "
                f"host {cache.host_hits}, disk {cache.disk_hits}, "
                f"fetched {cache.store_fetches}, failed {cache.fetch_failures}",
            ),
            (
                "  evicted",
                f"{cache.device_evictions} from device, {cache.host_evictions} from host "
                f"(host copies: {size_text(cache.host_bytes)})",
            ),
            ("store", _store_line(stats.store)),
            (
                "  names",
                f"{stats.store.resolve_hits} from memory, {stats.store.resolve_calls} asked for, "
                f"{stats.store.stale_resolves} from memory as it did not answer",
            ),
            *_shadow_lines(stats.shadow),
        )
    )


def _store_line(store: StoreStats) -> str:
    if store.connected:
        return f"every change is heard ({store.changes_seen} so far)"
    return f"changes have not been heard for {store.disconnected_s:.1f} s: each name is asked for"


def _shadow_lines(shadow: ShadowStats) -> list[tuple[str, str]]:
    if not shadow.started + shadow.failed + shadow.dropped:
        return []
    counts = f"{shadow.finished} finished, {shadow.failed} failed, {shadow.dropped} dropped"
    compared = f"{shadow.diverged} answered otherwise, over {shadow.compared_tokens} tokens"
    seconds = f"{shadow.shadow_s:.2f} s, where the requests took {shadow.primary_s:.2f} s"
    return [("shadows", counts), ("  compared", f"{compared}; {seconds}")]
