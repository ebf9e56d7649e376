import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FinishReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FINISH_REASON_UNSPECIFIED: _ClassVar[FinishReason]
    STOP: _ClassVar[FinishReason]
    LENGTH: _ClassVar[FinishReason]
    CANCELLED: _ClassVar[FinishReason]

class Residency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESIDENCY_UNSPECIFIED: _ClassVar[Residency]
    REMOTE: _ClassVar[Residency]
    FETCHING: _ClassVar[Residency]
    HOST: _ClassVar[Residency]
    LOADING: _ClassVar[Residency]
    DEVICE: _ClassVar[Residency]
FINISH_REASON_UNSPECIFIED: FinishReason
STOP: FinishReason
LENGTH: FinishReason
CANCELLED: FinishReason
RESIDENCY_UNSPECIFIED: Residency
REMOTE: Residency
FETCHING: Residency
HOST: Residency
LOADING: Residency
DEVICE: Residency

class GenerateRequest(_message.Message):
    __slots__ = ("adapter", "text", "token_ids", "chat", "sampling", "request_id", "priority", "split_key")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    SPLIT_KEY_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    text: str
    token_ids: TokenIds
    chat: Chat
    sampling: SamplingParams
    request_id: str
    priority: int
    split_key: str
    def __init__(self, adapter: _Optional[str] = ..., text: _Optional[str] = ..., token_ids: _Optional[_Union[TokenIds, _Mapping]] = ..., chat: _Optional[_Union[Chat, _Mapping]] = ..., sampling: _Optional[_Union[SamplingParams, _Mapping]] = ..., request_id: _Optional[str] = ..., priority: _Optional[int] = ..., split_key: _Optional[str] = ...) -> None: ...

class TokenIds(_message.Message):
    __slots__ = ("ids",)
    IDS_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Chat(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[ChatMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[ChatMessage, _Mapping]]] = ...) -> None: ...

class ChatMessage(_message.Message):
    __slots__ = ("role", "content")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    role: str
    content: str
    def __init__(self, role: _Optional[str] = ..., content: _Optional[str] = ...) -> None: ...

class SamplingParams(_message.Message):
    __slots__ = ("max_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "stop_token_ids", "ignore_eos", "logprobs", "presence_penalty", "frequency_penalty", "repetition_penalty", "logit_bias")
    class LogitBiasEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: float
        def __init__(self, key: _Optional[int] = ..., value: _Optional[float] = ...) -> None: ...
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MIN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    TOP_P_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MIN_P_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    PRESENCE_PENALTY_FIELD_NUMBER: _ClassVar[int]
    FREQUENCY_PENALTY_FIELD_NUMBER: _ClassVar[int]
    REPETITION_PENALTY_FIELD_NUMBER: _ClassVar[int]
    LOGIT_BIAS_FIELD_NUMBER: _ClassVar[int]
    max_tokens: int
    min_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int
    stop: _containers.RepeatedScalarFieldContainer[str]
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    ignore_eos: bool
    logprobs: int
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    logit_bias: _containers.ScalarMap[int, float]
    def __init__(self, max_tokens: _Optional[int] = ..., min_tokens: _Optional[int] = ..., temperature: _Optional[float] = ..., top_p: _Optional[float] = ..., top_k: _Optional[int] = ..., min_p: _Optional[float] = ..., seed: _Optional[int] = ..., stop: _Optional[_Iterable[str]] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., ignore_eos: bool = ..., logprobs: _Optional[int] = ..., presence_penalty: _Optional[float] = ..., frequency_penalty: _Optional[float] = ..., repetition_penalty: _Optional[float] = ..., logit_bias: _Optional[_Mapping[int, float]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("started", "delta", "finished")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    started: Started
    delta: Delta
    finished: Finished
    def __init__(self, started: _Optional[_Union[Started, _Mapping]] = ..., delta: _Optional[_Union[Delta, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("request_id", "adapter_version", "adapter_key", "num_prompt_tokens", "num_cached_tokens")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_KEY_FIELD_NUMBER: _ClassVar[int]
    NUM_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    adapter_version: str
    adapter_key: str
    num_prompt_tokens: int
    num_cached_tokens: int
    def __init__(self, request_id: _Optional[str] = ..., adapter_version: _Optional[str] = ..., adapter_key: _Optional[str] = ..., num_prompt_tokens: _Optional[int] = ..., num_cached_tokens: _Optional[int] = ...) -> None: ...

class Delta(_message.Message):
    __slots__ = ("token_ids", "text", "logprobs")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    text: str
    logprobs: _containers.RepeatedCompositeFieldContainer[TokenLogprobs]
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ..., text: _Optional[str] = ..., logprobs: _Optional[_Iterable[_Union[TokenLogprobs, _Mapping]]] = ...) -> None: ...

class TokenLogprobs(_message.Message):
    __slots__ = ("token_id", "logprob", "top")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    logprob: float
    top: _containers.RepeatedCompositeFieldContainer[TokenLogprob]
    def __init__(self, token_id: _Optional[int] = ..., logprob: _Optional[float] = ..., top: _Optional[_Iterable[_Union[TokenLogprob, _Mapping]]] = ...) -> None: ...

class TokenLogprob(_message.Message):
    __slots__ = ("token_id", "logprob")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    logprob: float
    def __init__(self, token_id: _Optional[int] = ..., logprob: _Optional[float] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("reason", "matched_stop", "usage", "timing")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MATCHED_STOP_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    reason: FinishReason
    matched_stop: str
    usage: Usage
    timing: Timing
    def __init__(self, reason: _Optional[_Union[FinishReason, str]] = ..., matched_stop: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("prompt_tokens", "completion_tokens")
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    prompt_tokens: int
    completion_tokens: int
    def __init__(self, prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("queue_s", "adapter_wait_s", "ttft_s", "total_s")
    QUEUE_S_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_WAIT_S_FIELD_NUMBER: _ClassVar[int]
    TTFT_S_FIELD_NUMBER: _ClassVar[int]
    TOTAL_S_FIELD_NUMBER: _ClassVar[int]
    queue_s: float
    adapter_wait_s: float
    ttft_s: float
    total_s: float
    def __init__(self, queue_s: _Optional[float] = ..., adapter_wait_s: _Optional[float] = ..., ttft_s: _Optional[float] = ..., total_s: _Optional[float] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Model(_message.Message):
    __slots__ = ("base_model", "base_model_digest", "architecture", "max_context_tokens", "max_rank", "dtype", "device", "target_modules")
    BASE_MODEL_FIELD_NUMBER: _ClassVar[int]
    BASE_MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    MAX_CONTEXT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_RANK_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    TARGET_MODULES_FIELD_NUMBER: _ClassVar[int]
    base_model: str
    base_model_digest: str
    architecture: str
    max_context_tokens: int
    max_rank: int
    dtype: str
    device: str
    target_modules: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, base_model: _Optional[str] = ..., base_model_digest: _Optional[str] = ..., architecture: _Optional[str] = ..., max_context_tokens: _Optional[int] = ..., max_rank: _Optional[int] = ..., dtype: _Optional[str] = ..., device: _Optional[str] = ..., target_modules: _Optional[_Iterable[str]] = ...) -> None: ...

class ResidentAdapter(_message.Message):
    __slots__ = ("adapter_version", "key", "residency", "pinned", "rank", "device_bytes", "host_bytes", "running_requests", "waiting_requests", "last_used_time")
    ADAPTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    RESIDENCY_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    DEVICE_BYTES_FIELD_NUMBER: _ClassVar[int]
    HOST_BYTES_FIELD_NUMBER: _ClassVar[int]
    RUNNING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    WAITING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    LAST_USED_TIME_FIELD_NUMBER: _ClassVar[int]
    adapter_version: str
    key: str
    residency: Residency
    pinned: bool
    rank: int
    device_bytes: int
    host_bytes: int
    running_requests: int
    waiting_requests: int
    last_used_time: _timestamp_pb2.Timestamp
    def __init__(self, adapter_version: _Optional[str] = ..., key: _Optional[str] = ..., residency: _Optional[_Union[Residency, str]] = ..., pinned: bool = ..., rank: _Optional[int] = ..., device_bytes: _Optional[int] = ..., host_bytes: _Optional[int] = ..., running_requests: _Optional[int] = ..., waiting_requests: _Optional[int] = ..., last_used_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListResidentAdaptersRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListResidentAdaptersResponse(_message.Message):
    __slots__ = ("adapters", "next_page_token")
    ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    adapters: _containers.RepeatedCompositeFieldContainer[ResidentAdapter]
    next_page_token: str
    def __init__(self, adapters: _Optional[_Iterable[_Union[ResidentAdapter, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class LoadAdapterRequest(_message.Message):
    __slots__ = ("adapter", "tier", "pin")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    PIN_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    tier: Residency
    pin: bool
    def __init__(self, adapter: _Optional[str] = ..., tier: _Optional[_Union[Residency, str]] = ..., pin: bool = ...) -> None: ...

class UnloadAdapterRequest(_message.Message):
    __slots__ = ("adapter", "tier")
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    TIER_FIELD_NUMBER: _ClassVar[int]
    adapter: str
    tier: Residency
    def __init__(self, adapter: _Optional[str] = ..., tier: _Optional[_Union[Residency, str]] = ...) -> None: ...

class UnloadAdapterResponse(_message.Message):
    __slots__ = ("freed_device_bytes", "freed_host_bytes")
    FREED_DEVICE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FREED_HOST_BYTES_FIELD_NUMBER: _ClassVar[int]
    freed_device_bytes: int
    freed_host_bytes: int
    def __init__(self, freed_device_bytes: _Optional[int] = ..., freed_host_bytes: _Optional[int] = ...) -> None: ...

class GetStatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Stats(_message.Message):
    __slots__ = ("pool", "queued_requests", "running_requests", "cache", "tokens", "steps", "preemptions", "requests", "store", "shadow")
    POOL_FIELD_NUMBER: _ClassVar[int]
    QUEUED_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    CACHE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    PREEMPTIONS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    pool: PoolStats
    queued_requests: int
    running_requests: int
    cache: CacheStats
    tokens: TokenStats
    steps: StepStats
    preemptions: int
    requests: RequestStats
    store: StoreStats
    shadow: ShadowStats
    def __init__(self, pool: _Optional[_Union[PoolStats, _Mapping]] = ..., queued_requests: _Optional[int] = ..., running_requests: _Optional[int] = ..., cache: _Optional[_Union[CacheStats, _Mapping]] = ..., tokens: _Optional[_Union[TokenStats, _Mapping]] = ..., steps: _Optional[_Union[StepStats, _Mapping]] = ..., preemptions: _Optional[int] = ..., requests: _Optional[_Union[RequestStats, _Mapping]] = ..., store: _Optional[_Union[StoreStats, _Mapping]] = ..., shadow: _Optional[_Union[ShadowStats, _Mapping]] = ...) -> None: ...

class StoreStats(_message.Message):
    __slots__ = ("connected", "disconnected_s", "changes_seen", "resolve_hits", "resolve_calls", "stale_resolves")
    CONNECTED_FIELD_NUMBER: _ClassVar[int]
    DISCONNECTED_S_FIELD_NUMBER: _ClassVar[int]
    CHANGES_SEEN_FIELD_NUMBER: _ClassVar[int]
    RESOLVE_HITS_FIELD_NUMBER: _ClassVar[int]
    RESOLVE_CALLS_FIELD_NUMBER: _ClassVar[int]
    STALE_RESOLVES_FIELD_NUMBER: _ClassVar[int]
    connected: bool
    disconnected_s: float
    changes_seen: int
    resolve_hits: int
    resolve_calls: int
    stale_resolves: int
    def __init__(self, connected: bool = ..., disconnected_s: _Optional[float] = ..., changes_seen: _Optional[int] = ..., resolve_hits: _Optional[int] = ..., resolve_calls: _Optional[int] = ..., stale_resolves: _Optional[int] = ...) -> None: ...

class ShadowStats(_message.Message):
    __slots__ = ("started", "finished", "failed", "dropped", "compared_tokens", "diverged", "primary_s", "shadow_s")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    COMPARED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DIVERGED_FIELD_NUMBER: _ClassVar[int]
    PRIMARY_S_FIELD_NUMBER: _ClassVar[int]
    SHADOW_S_FIELD_NUMBER: _ClassVar[int]
    started: int
    finished: int
    failed: int
    dropped: int
    compared_tokens: int
    diverged: int
    primary_s: float
    shadow_s: float
    def __init__(self, started: _Optional[int] = ..., finished: _Optional[int] = ..., failed: _Optional[int] = ..., dropped: _Optional[int] = ..., compared_tokens: _Optional[int] = ..., diverged: _Optional[int] = ..., primary_s: _Optional[float] = ..., shadow_s: _Optional[float] = ...) -> None: ...

class PoolStats(_message.Message):
    __slots__ = ("page_bytes", "total_pages", "free_pages", "kv_pages", "adapter_pages", "peak_kv_pages", "peak_adapter_pages")
    PAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_PAGES_FIELD_NUMBER: _ClassVar[int]
    FREE_PAGES_FIELD_NUMBER: _ClassVar[int]
    KV_PAGES_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_PAGES_FIELD_NUMBER: _ClassVar[int]
    PEAK_KV_PAGES_FIELD_NUMBER: _ClassVar[int]
    PEAK_ADAPTER_PAGES_FIELD_NUMBER: _ClassVar[int]
    page_bytes: int
    total_pages: int
    free_pages: int
    kv_pages: int
    adapter_pages: int
    peak_kv_pages: int
    peak_adapter_pages: int
    def __init__(self, page_bytes: _Optional[int] = ..., total_pages: _Optional[int] = ..., free_pages: _Optional[int] = ..., kv_pages: _Optional[int] = ..., adapter_pages: _Optional[int] = ..., peak_kv_pages: _Optional[int] = ..., peak_adapter_pages: _Optional[int] = ...) -> None: ...

class CacheStats(_message.Message):
    __slots__ = ("device_hits", "host_hits", "disk_hits", "store_fetches", "device_evictions", "host_evictions", "fetch_failures", "host_bytes", "resident_adapters")
    DEVICE_HITS_FIELD_NUMBER: _ClassVar[int]
    HOST_HITS_FIELD_NUMBER: _ClassVar[int]
    DISK_HITS_FIELD_NUMBER: _ClassVar[int]
    STORE_FETCHES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_EVICTIONS_FIELD_NUMBER: _ClassVar[int]
    HOST_EVICTIONS_FIELD_NUMBER: _ClassVar[int]
    FETCH_FAILURES_FIELD_NUMBER: _ClassVar[int]
    HOST_BYTES_FIELD_NUMBER: _ClassVar[int]
    RESIDENT_ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    device_hits: int
    host_hits: int
    disk_hits: int
    store_fetches: int
    device_evictions: int
    host_evictions: int
    fetch_failures: int
    host_bytes: int
    resident_adapters: int
    def __init__(self, device_hits: _Optional[int] = ..., host_hits: _Optional[int] = ..., disk_hits: _Optional[int] = ..., store_fetches: _Optional[int] = ..., device_evictions: _Optional[int] = ..., host_evictions: _Optional[int] = ..., fetch_failures: _Optional[int] = ..., host_bytes: _Optional[int] = ..., resident_adapters: _Optional[int] = ...) -> None: ...

class TokenStats(_message.Message):
    __slots__ = ("prompt", "generated")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    GENERATED_FIELD_NUMBER: _ClassVar[int]
    prompt: int
    generated: int
    def __init__(self, prompt: _Optional[int] = ..., generated: _Optional[int] = ...) -> None: ...

class StepStats(_message.Message):
    __slots__ = ("total", "mixed", "max_adapters_in_batch", "max_requests_in_batch")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    MIXED_FIELD_NUMBER: _ClassVar[int]
    MAX_ADAPTERS_IN_BATCH_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUESTS_IN_BATCH_FIELD_NUMBER: _ClassVar[int]
    total: int
    mixed: int
    max_adapters_in_batch: int
    max_requests_in_batch: int
    def __init__(self, total: _Optional[int] = ..., mixed: _Optional[int] = ..., max_adapters_in_batch: _Optional[int] = ..., max_requests_in_batch: _Optional[int] = ...) -> None: ...

class RequestStats(_message.Message):
    __slots__ = ("finished", "cancelled", "failed")
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    finished: int
    cancelled: int
    failed: int
    def __init__(self, finished: _Optional[int] = ..., cancelled: _Optional[int] = ..., failed: _Optional[int] = ...) -> None: ...
