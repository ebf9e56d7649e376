"""Runs one scheduled step on the model: chunks -> slices -> logits -> sampled tokens.

Must not know policy: what is in the step was decided by the scheduler.
"""

from collections.abc import Sequence as SequenceOf

from kernels.segments import BASE
from services.inference.adapters.residency import Residency
from services.inference.batch import Slice
from services.inference.kv_cache import KvCache
from services.inference.model.forward import Forward
from services.inference.sampler import sample
from services.inference.sampler_row import SampledToken, SamplerRow
from services.inference.scheduler import Chunk
from services.inference.sequence import Sequence


class ModelRunner:
    """The model and the sampler, fed from the KV cache's page tables and the adapters' table rows."""

    def __init__(self, forward: Forward, kv_cache: KvCache, residency: Residency) -> None:
        self._forward = forward
        self._kv = kv_cache
        self._residency = residency

    def run(self, chunks: SequenceOf[Chunk]) -> list[tuple[Sequence, SampledToken]]:
        """Computes `chunks`; a token for each sequence whose last known token is among them.

        Writes keys and values into the sequences' pages.
        """
        ordered = sorted(chunks, key=lambda chunk: self._adapter_index(chunk.sequence))
        slices = [self._slice(chunk) for chunk in ordered]
        logits_MV = self._forward(slices)
        sampled = [chunk.sequence for chunk in ordered if chunk.is_last]
        tokens = sample(logits_MV, [_sampler_row(sequence) for sequence in sampled]) if sampled else []
        return list(zip(sampled, tokens, strict=True))

    def _adapter_index(self, sequence: Sequence) -> int:
        key = sequence.adapter_key
        return BASE if key is None else self._residency.adapter_index(key)

    def _slice(self, chunk: Chunk) -> Slice:
        sequence = chunk.sequence
        return Slice(
            token_ids=sequence.token_ids(chunk.start, chunk.start + chunk.num_tokens),
            start=chunk.start,
            pages=self._kv.pages(sequence.id),
            adapter_index=self._adapter_index(sequence),
            wants_logits=chunk.is_last,
        )


def _sampler_row(sequence: Sequence) -> SamplerRow:
    request = sequence.request
    return SamplerRow(
        params=request.sampling,
        prompt_token_ids=request.prompt_token_ids,
        generated_token_ids=sequence.output_ids,
        eos_token_ids=request.eos_token_ids,
    )
