"""The product's decoder on a pool of NaNs, with adapters and sequences in pages scattered over it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from kernels.choose import make_sgmv
from kernels.rank_row_table import RankRowTable
from kernels.segments import BASE
from services.inference.adapters.adapter_weights import read_adapter_weights
from services.inference.adapters.host_arena import HostArena
from services.inference.adapters.packing import pack
from services.inference.adapters.workers import Workers
from services.inference.batch import Slice, make_batch
from services.inference.model.choose import make_fused_layers
from services.inference.model.config import read_config
from services.inference.model.decoder import Decoder
from services.inference.model.kv_pages import kv_page_elements
from services.inference.model.sites import lora_sites
from services.inference.model.weights import load_weights
from services.inference.request import AdapterKey

PAGE_TOKENS = 8
NUM_PAGES = 400
MAX_RANK = 32


@dataclass(slots=True)
class Stream:
    """A sequence, how far it is computed, and the pages it holds."""

    token_ids: list[int]
    adapter_index: int = BASE
    num_computed: int = 0
    pages: list[int] = field(default_factory=list)


class PagedDecoder:
    """Decoder, pool and table of the model in `model_dir`."""

    def __init__(self, model_dir: Path, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.config = read_config(model_dir)
        self.device = device
        elements = kv_page_elements(self.config, PAGE_TOKENS)
        self.pool_E = torch.full((NUM_PAGES * elements,), float("nan"), dtype=dtype, device=device)
        self.table = RankRowTable(self.pool_E, lora_sites(self.config), 16, MAX_RANK, elements)
        weights = load_weights(model_dir, self.config, dtype, device)
        self.decoder = Decoder(self.config, weights, self.pool_E, PAGE_TOKENS, make_sgmv(self.table))
        self._free = list(range(NUM_PAGES))
        random.Random(0).shuffle(self._free)
        self._arena = HostArena(elements, dtype, self.pool_E.nbytes)

    def fused(self, model_dir: Path) -> Decoder:
        """Another decoder of the same model over the same pool and table, as a CUDA device's is served."""
        weights = load_weights(model_dir, self.config, self.pool_E.dtype, self.device)
        sgmv = make_sgmv(self.table)
        fused = make_fused_layers(self.config, weights, sgmv)
        return Decoder(self.config, weights, self.pool_E, PAGE_TOKENS, sgmv, fused=fused)

    def load_adapter(self, directory: Path, adapter_index: int) -> None:
        """Packs the adapter in `directory` and copies it into pages, as a loader does."""
        weights = read_adapter_weights(directory, self.table.sites, MAX_RANK)
        key, shape, base_weight = AdapterKey(directory.name), self.table.row_shape, self.decoder.site_weight
        packed = pack(key, weights, self._arena, shape, base_weight, Workers(1))
        pages = self.take_pages(packed.num_pages)
        self.pool_E.view(NUM_PAGES, -1)[pages] = torch.stack(packed.pages.tensors_E).to(self.device)
        self._arena.give_back(packed.pages)
        self.table.put(adapter_index, packed.row.at(pages))

    def take_pages(self, num_pages: int) -> list[int]:
        """Pages from anywhere in the pool."""
        return [self._free.pop() for _ in range(num_pages)]

    def slices(self, chunks: Sequence[tuple[Stream, int]]) -> list[Slice]:
        """The next `n` tokens of each stream, in pages that it is given here where it lacks them."""
        for stream, num_tokens in chunks:
            missing = -(-(stream.num_computed + num_tokens) // PAGE_TOKENS) - len(stream.pages)
            stream.pages += self.take_pages(missing)
        return [_slice(stream, n) for stream, n in chunks]

    def step(self, chunks: Sequence[tuple[Stream, int]]) -> list[Tensor]:
        """Computes the next `n` tokens of each stream; logits of all of them, [n, V] each."""
        batch = make_batch(self.slices(chunks), PAGE_TOKENS, self.device)
        all_rows = torch.arange(batch.num_tokens, device=self.device)
        batch = replace(batch, sample_rows_M=all_rows, sample_segments=batch.token_segments)
        logits_MV = self.decoder.forward(batch)
        for stream, num_tokens in chunks:
            stream.num_computed += num_tokens
        return list(logits_MV.split([num_tokens for _, num_tokens in chunks]))


def _slice(stream: Stream, num_tokens: int) -> Slice:
    start = stream.num_computed
    return Slice(
        token_ids=stream.token_ids[start : start + num_tokens],
        start=start,
        pages=stream.pages,
        adapter_index=stream.adapter_index,
        wants_logits=True,
    )
