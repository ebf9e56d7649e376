"""Between the wire's messages and the service's values.

Must hold no decision beyond defaults and presence; ranges are checked by the values themselves.
"""

import time
from dataclasses import asdict

from google.protobuf.timestamp_pb2 import Timestamp

from protos.multilora.v1 import inference_pb2 as pb
from services.common.errors import invalid_field
from services.inference.messages import AdapterInfo, EngineStats, ResidencyState, Started, TokenLogprobs
from services.inference.request import Request, SamplingParams
from services.inference.resolution import StoreStats
from services.inference.shadow_stats import ShadowStats
from services.inference.stream import End
from services.inference.token_stream import Delta


def sampling_from_wire(message: pb.SamplingParams) -> SamplingParams:
    """Absent fields get SamplingParams' defaults. Raises ServiceError for an explicit max_tokens of 0."""
    if message.HasField("max_tokens") and message.max_tokens < 1:
        raise invalid_field("sampling.max_tokens", "must be at least 1, or absent for all the room")
    scalars = {
        name: getattr(message, name)
        for name in (
            "max_tokens",
            "min_tokens",
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "seed",
            "logprobs",
            "presence_penalty",
            "frequency_penalty",
            "repetition_penalty",
        )
        if message.HasField(name)
    }
    return SamplingParams(
        **scalars,
        stop=tuple(message.stop),
        stop_token_ids=tuple(message.stop_token_ids),
        ignore_eos=message.ignore_eos,
        logit_bias=tuple(sorted(message.logit_bias.items())),
    )


def tier_from_wire(tier: int, default: ResidencyState) -> ResidencyState:
    """HOST or DEVICE. Raises ServiceError INVALID_ARGUMENT naming `tier` for any other."""
    if tier == pb.RESIDENCY_UNSPECIFIED:
        return default
    if tier not in (pb.HOST, pb.DEVICE):
        raise invalid_field("tier", "must be HOST or DEVICE")
    return ResidencyState(pb.Residency.Name(tier))


def event_to_wire(event: Started | Delta | End, request: Request, callers_id: str) -> pb.GenerateResponse:
    """One event of the stream of `request`, under the id that the caller knows it by."""
    match event:
        case Started():
            return pb.GenerateResponse(started=_started(event, request, callers_id))
        case Delta():
            logprobs = [_logprobs(chosen) for chosen in event.logprobs]
            delta = pb.Delta(token_ids=event.token_ids, text=event.text, logprobs=logprobs)
            return pb.GenerateResponse(delta=delta)
        case End():
            return pb.GenerateResponse(finished=_finished(event, request))


def _started(started: Started, request: Request, callers_id: str) -> pb.Started:
    adapter = request.adapter
    return pb.Started(
        request_id=callers_id,
        adapter_version=adapter.version_name if adapter else "",
        adapter_key=adapter.key if adapter else "",
        num_prompt_tokens=len(request.prompt_token_ids),
        num_cached_tokens=started.num_cached_tokens,
    )


def _logprobs(chosen: TokenLogprobs) -> pb.TokenLogprobs:
    top = [pb.TokenLogprob(token_id=token_id, logprob=logprob) for token_id, logprob in chosen.top]
    return pb.TokenLogprobs(token_id=chosen.token_id, logprob=chosen.logprob, top=top)


def _finished(end: End, request: Request) -> pb.Finished:
    timing = end.timing
    return pb.Finished(
        reason=end.reason.value,
        matched_stop=end.matched_stop,
        usage=pb.Usage(prompt_tokens=len(request.prompt_token_ids), completion_tokens=end.completion_tokens),
        timing=pb.Timing(
            queue_s=timing.queue_s,
            adapter_wait_s=timing.adapter_wait_s,
            ttft_s=timing.ttft_s,
            total_s=timing.total_s,
        ),
    )


def resident_to_wire(info: AdapterInfo) -> pb.ResidentAdapter:
    """The adapter's row, its monotonic time turned into a date."""
    last_used_time = Timestamp()
    last_used_time.FromNanoseconds(int((time.time() - time.monotonic() + info.last_used_s) * 1e9))
    return pb.ResidentAdapter(
        adapter_version=info.version_name,
        key=info.key,
        residency=info.residency.value,
        pinned=info.pinned,
        rank=info.rank,
        device_bytes=info.device_bytes,
        host_bytes=info.host_bytes,
        running_requests=info.running_requests,
        waiting_requests=info.waiting_requests,
        last_used_time=last_used_time,
    )


def stats_to_wire(stats: EngineStats, store: StoreStats, shadow: ShadowStats) -> pb.Stats:
    """The engine's and the front end's counters in the wire's groups."""
    return pb.Stats(
        pool=pb.PoolStats(
            page_bytes=stats.page_bytes,
            total_pages=stats.total_pages,
            free_pages=stats.free_pages,
            kv_pages=stats.kv_pages,
            adapter_pages=stats.adapter_pages,
            peak_kv_pages=stats.peak_kv_pages,
            peak_adapter_pages=stats.peak_adapter_pages,
        ),
        queued_requests=stats.queued_requests,
        running_requests=stats.running_requests,
        cache=pb.CacheStats(
            device_hits=stats.device_hits,
            host_hits=stats.host_hits,
            disk_hits=stats.disk_hits,
            store_fetches=stats.store_fetches,
            device_evictions=stats.device_evictions,
            host_evictions=stats.host_evictions,
            fetch_failures=stats.fetch_failures,
            host_bytes=stats.host_bytes,
            resident_adapters=stats.resident_adapters,
        ),
        tokens=pb.TokenStats(prompt=stats.prompt_tokens, generated=stats.generated_tokens),
        steps=pb.StepStats(
            total=stats.steps,
            mixed=stats.mixed_steps,
            max_adapters_in_batch=stats.max_adapters_in_batch,
            max_requests_in_batch=stats.max_requests_in_batch,
        ),
        preemptions=stats.preemptions,
        requests=pb.RequestStats(
            finished=stats.finished_requests,
            cancelled=stats.cancelled_requests,
            failed=stats.failed_requests,
        ),
        store=pb.StoreStats(**asdict(store)),
        shadow=pb.ShadowStats(**asdict(shadow)),
    )
