"""Runs scheduled steps on the model: chunks -> slices -> logits -> sampled tokens.

Must not know policy: what is in a step was decided by the scheduler.
"""

from collections.abc import Sequence as SequenceOf
from operator import itemgetter

from kernels.host_copies import HostCopies
from kernels.segments import BASE
from services.inference.adapters.residency import Residency
from services.inference.batch import Slice
from services.inference.kv_cache import KvCache
from services.inference.model.forward import Forward
from services.inference.model.last_tokens import LastTokens, row_of_last
from services.inference.sampler import Sampling, launch_sampling
from services.inference.sampler_row import SampledToken, SamplerRow
from services.inference.scheduler import Chunk
from services.inference.sequence import Sequence


class LaunchedStep:
    """A step on its way through the device, which samples a token for each of `sequences`."""

    def __init__(self, sequences: SequenceOf[Sequence], sampling: Sampling) -> None:
        self._sequences = sequences
        self._sampling = sampling

    def tokens(self) -> list[tuple[Sequence, SampledToken]]:
        """Waits for this step, and for nothing after it."""
        return list(zip(self._sequences, self._sampling.tokens(), strict=True))


class LaunchedPrefill:
    """A step on its way that samples nothing."""

    def __init__(self, ended: HostCopies) -> None:
        self._ended = ended

    def tokens(self) -> list[tuple[Sequence, SampledToken]]:
        """Waits for this step; none."""
        self._ended.wait()
        return []


class ModelRunner:
    """The model and the sampler, fed from the KV cache's page tables and the adapters' table rows."""

    def __init__(
        self,
        forward: Forward,
        last_tokens: LastTokens,
        kv_cache: KvCache,
        residency: Residency,
        *,
        overlaps: bool | None = None,
    ) -> None:
        """`overlaps` None: as the device does."""
        self._forward = forward
        self._last_tokens = last_tokens
        self._kv = kv_cache
        self._residency = residency
        self._overlaps = last_tokens.device.type == "cuda" if overlaps is None else overlaps
        # The row that each sequence has in what the last step sampled.
        self._rows: dict[Sequence, int] = {}

    @property
    def overlaps(self) -> bool:
        """Whether steps run beside the host."""
        return self._overlaps

    def launch(self, chunks: SequenceOf[Chunk]) -> LaunchedStep | LaunchedPrefill:
        """Launches the model on `chunks`, and the sampler for those whose last token is among them.

        A token in flight is one that the launch before this one samples. Writes keys and values into the
        sequences' pages.
        """
        placed = [(self._adapter_index(chunk.sequence), chunk) for chunk in chunks]
        placed.sort(key=itemgetter(0))
        logits_MV = self._forward([self._slice(index, chunk) for index, chunk in placed])
        sampled = [chunk.sequence for _, chunk in placed if chunk.is_last]
        if not sampled:
            self._rows = {}
            return LaunchedPrefill(HostCopies((), self._last_tokens.device))
        sampling = launch_sampling(
            logits_MV, [self._row(sequence) for sequence in sampled], self._last_tokens
        )
        self._rows = {sequence: row for row, sequence in enumerate(sampled)}
        return LaunchedStep(sampled, sampling)

    def _adapter_index(self, sequence: Sequence) -> int:
        key = sequence.adapter_key
        return BASE if key is None else self._residency.adapter_index(key)

    def _slice(self, adapter_index: int, chunk: Chunk) -> Slice:
        sequence = chunk.sequence
        if sequence.num_in_flight:
            token_ids = [row_of_last(self._rows[sequence])]
        else:
            token_ids = sequence.token_ids(chunk.start, chunk.start + chunk.num_tokens)
        return Slice(
            token_ids=token_ids,
            start=chunk.start,
            pages=self._kv.pages(sequence.id),
            adapter_index=adapter_index,
            wants_logits=chunk.is_last,
        )

    def _row(self, sequence: Sequence) -> SamplerRow:
        request = sequence.request
        return SamplerRow(
            params=request.sampling,
            prompt_token_ids=request.prompt_token_ids,
            generated_token_ids=sequence.output_ids,
            eos_token_ids=request.eos_token_ids,
            token_in_flight=row_of_last(self._rows[sequence]) if sequence.num_in_flight else None,
        )
