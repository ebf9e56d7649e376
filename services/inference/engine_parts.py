"""Builds an engine from settings: model, pool, table, caches, scheduler, and one warm step.

The one place that knows every part's constructor; must hold no logic of a running engine.
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from kernels.choose import make_sgmv
from kernels.lora_site import LoraSite
from kernels.rank_row_table import RankRowTable
from kernels.segments import BASE
from services.inference.adapters.fetcher import FileReader
from services.inference.adapters.io import AdapterIo, Completion, IoSizes
from services.inference.adapters.residency import Residency
from services.inference.batch import Slice
from services.inference.copy_stream import make_copy_stream
from services.inference.engine import Engine, Runner
from services.inference.kv_cache import KvCache
from services.inference.layer_gates import LoadGates
from services.inference.messages import Ready
from services.inference.model.choose import make_fused_layers
from services.inference.model.config import ModelConfig, read_config
from services.inference.model.decoder import Decoder
from services.inference.model.forward import Forward, make_forward
from services.inference.model.kv_pages import kv_page_elements
from services.inference.model.last_tokens import LastTokens
from services.inference.model.sites import lora_sites, site_layers
from services.inference.model.step_limits import StepLimits
from services.inference.model.weights import Weights, load_weights
from services.inference.page_pool import PagePool
from services.inference.request import SamplingParams
from services.inference.runner import ModelRunner
from services.inference.sampler import launch_sampling
from services.inference.sampler_row import SamplerRow
from services.inference.scheduler import Scheduler
from services.inference.settings import Settings

log = logging.getLogger(__name__)

DEFAULT_CPU_POOL_BYTES = 256 << 20
# Left on a GPU for activations, kernels' scratch and the allocator when the pool takes the rest.
CUDA_RESERVE_SHARE = 0.1
MAX_TABLE_ROWS = 2048
# How long a thread that fetches may keep the interpreter from the loop, which wants it many times a step.
SWITCH_INTERVAL_S = 0.0005
# More gain nothing: reading and hashing are then as fast as what cannot be shared out.
MAX_PACK_THREADS = 8

LoadWeights = Callable[[Path, ModelConfig, torch.dtype, torch.device], Weights]


@dataclass(frozen=True, slots=True)
class PoolShape:
    """How the pool is cut: pages of `page_elements`, each `page_tokens` tokens of KV over all layers."""

    page_tokens: int
    page_elements: int
    page_bytes: int
    num_pages: int


def build_engine(
    settings: Settings,
    post: Callable[[Completion], None],
    reader: FileReader,
    *,
    load: LoadWeights = load_weights,
    make_runner: Callable[..., Runner] = ModelRunner,
) -> tuple[Engine, Ready, Callable[[], None]]:
    """A warm engine, what to tell the front end, and a function that ends its threads.

    Completions of adapter I/O go to `post`, from other threads; files of adapters come from `reader`.
    `make_runner` is called as ModelRunner is. Raises ServiceError or ValueError, naming the file,
    tensor or flag at fault.
    """
    started_s = time.monotonic()
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: no CUDA device can be used here: give cpu, or check the driver")
    device, dtype = torch.device(settings.device), getattr(torch, settings.dtype_name)
    # A core is left to the front end: where both want the last one, every step waits for its threads.
    torch.set_num_threads(settings.threads or max(1, (os.cpu_count() or 2) - 1))
    config = read_config(settings.model)
    weights = load(settings.model, config, dtype, device)
    sites = lora_sites(config)
    shape = pool_shape(settings, config, sites, dtype)
    pool_E = _allocate(shape, dtype, device)
    table = RankRowTable(
        pool_E,
        sites,
        num_adapters=min(shape.num_pages, MAX_TABLE_ROWS),
        max_rank=settings.max_rank,
        page_elements=shape.page_elements,
    )
    sgmv = make_sgmv(table)
    fused = make_fused_layers(config, weights, sgmv)
    decoder = Decoder(config, weights, pool_E, shape.page_tokens, sgmv, fused=fused)
    context_tokens = min(config.max_context_tokens, shape.num_pages * shape.page_tokens)
    if settings.max_context_tokens:
        context_tokens = min(context_tokens, settings.max_context_tokens)
    copy_stream = make_copy_stream(device)
    gates = LoadGates(site_layers(config), copy_stream.make_gate)
    last_tokens = LastTokens(settings.max_batch_requests, device)
    limits = StepLimits(
        settings.max_batch_tokens, settings.max_batch_requests, context_tokens, shape.page_tokens
    )
    forward = make_forward(decoder, gates, last_tokens, limits)
    _warm_up(forward, last_tokens, shape.page_tokens)
    make_bound_runner = partial(make_runner, forward, last_tokens)
    make_io = partial(AdapterIo, copy_stream=copy_stream, gates=gates, post=post)
    engine, close = _assemble(settings, decoder, table, shape, make_io, reader, make_bound_runner)
    log.info("%s loaded and warm after %.1f s", settings.base_model_name, time.monotonic() - started_s)
    return engine, Ready(shape.num_pages, shape.page_bytes, context_tokens), close


def _assemble(
    settings: Settings,
    decoder: Decoder,
    table: RankRowTable,
    shape: PoolShape,
    make_io: Callable[..., AdapterIo],
    reader: FileReader,
    make_runner: Callable[..., Runner],
) -> tuple[Engine, Callable[[], None]]:
    pool = PagePool(shape.num_pages)
    kv_cache = KvCache(pool, shape.page_tokens)
    residency = Residency(pool, table.num_adapters, settings.host_cache_bytes)
    scheduler = Scheduler(
        pool,
        kv_cache,
        residency,
        max_batch_tokens=settings.max_batch_tokens,
        max_batch_requests=settings.max_batch_requests,
        clock=time.monotonic,
    )
    with ExitStack() as stack:
        cache_dir = settings.cache_dir
        if cache_dir is None:
            cache_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="multilora-")))
        adapter_io = make_io(
            residency,
            table,
            reader,
            cache_dir=cache_dir,
            sizes=_io_sizes(settings),
            base_weight=decoder.site_weight,
        )
        stack.callback(adapter_io.close)
        runner = make_runner(kv_cache, residency)
        engine = Engine(
            scheduler,
            residency,
            pool,
            adapter_io,
            runner,
            page_bytes=shape.page_bytes,
            max_queue=settings.max_queue,
        )
        return engine, stack.pop_all().close


def pack_threads() -> int:
    """Threads that share the checking and packing of an adapter: half of the cores, at most 8.

    The loop, the front end and the model's own threads go on meanwhile.
    """
    return max(1, min(MAX_PACK_THREADS, (os.cpu_count() or 2) // 2))


def _io_sizes(settings: Settings) -> IoSizes:
    return IoSizes(
        disk_cache_bytes=settings.disk_cache_bytes,
        host_cache_bytes=settings.host_cache_bytes,
        store_threads=settings.fetch_threads,
        disk_threads=settings.disk_threads,
        pack_threads=pack_threads(),
    )


def pool_shape(
    settings: Settings, config: ModelConfig, sites: tuple[LoraSite, ...], dtype: torch.dtype
) -> PoolShape:
    """Pages of --page-tokens tokens, or the next power of two that holds the widest rank row.

    Raises ValueError naming --pool-bytes if not even one page fits.
    """
    widest = max(max(site.in_features, site.out_features) for site in sites)
    page_tokens = settings.page_tokens
    while kv_page_elements(config, page_tokens) < widest:
        page_tokens *= 2
    page_elements = kv_page_elements(config, page_tokens)
    page_bytes = page_elements * dtype.itemsize
    pool_bytes = settings.pool_bytes or _default_pool_bytes(settings.device)
    num_pages = pool_bytes // page_bytes
    if num_pages < 1:
        raise ValueError(f"--pool-bytes: {pool_bytes} bytes hold no page; one page takes {page_bytes}")
    return PoolShape(page_tokens, page_elements, page_bytes, num_pages)


def _allocate(shape: PoolShape, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    try:
        return torch.zeros(shape.num_pages * shape.page_elements, dtype=dtype, device=device)
    except RuntimeError as error:  # torch's word for too little memory, on any device
        num_bytes = shape.num_pages * shape.page_bytes
        raise ValueError(f"--pool-bytes: {num_bytes} bytes are more than this machine has free") from error


def _default_pool_bytes(device: str) -> int:
    if device == "cpu":
        return DEFAULT_CPU_POOL_BYTES
    free_bytes, total_bytes = torch.cuda.mem_get_info()
    return max(0, free_bytes - int(CUDA_RESERVE_SHARE * total_bytes))


def _warm_up(forward: Forward, last_tokens: LastTokens, page_tokens: int) -> None:
    # The first pass through the libraries compiles and allocates; no request should wait for that.
    one = Slice(token_ids=[0] * page_tokens, start=0, pages=[0], adapter_index=BASE, wants_logits=True)
    params = SamplingParams(seed=0, top_k=2, top_p=0.9, min_p=0.1, presence_penalty=0.5, logprobs=1)
    launch_sampling(forward([one]), [SamplerRow(params, one.token_ids, ())], last_tokens).tokens()
