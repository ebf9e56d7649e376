"""Checks each LoRA tensor: its pair, shape, rank, dtype, and that every value is finite."""

from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

from services.adapter_store.domain.base_model import BaseModel
from services.adapter_store.domain.version import WeightsSummary
from services.adapter_store.manifest.file_list import WEIGHTS_PATH
from services.adapter_store.manifest.peft_config import PeftConfig
from services.adapter_store.manifest.refusals import malformed, mismatch, unsupported
from services.adapter_store.manifest.safetensors_header import TensorEntry
from services.adapter_store.manifest.tensor_names import Site

SCAN_CHUNK_BYTES = 4 << 20

# The exponent bits of each dtype that is served: all of them set means NaN or infinity.
_EXPONENT: dict[str, tuple[str, int]] = {
    "F32": ("<u4", 0x7F80_0000),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}


def check_sites(sites: dict[str, Site], config: PeftConfig, base_model: BaseModel) -> WeightsSummary:
    """What the adapter is, from its header alone. Raises a refusal naming the tensor at fault."""
    if not sites:
        raise malformed(
            WEIGHTS_PATH, "has no LoRA tensors: save the adapter again with PEFT's save_pretrained"
        )
    num_parameters = 0
    ranks = set()
    for site in sites.values():
        rank = config.rank_of(site.path)
        ranks.add(rank)
        for tensor in _check_site(site, rank, config, base_model):
            num_parameters += tensor.num_elements
    return WeightsSummary(
        rank=max(ranks),
        alpha=config.lora_alpha,
        target_modules=tuple(sorted({site.module.name for site in sites.values()})),
        rslora=config.rslora,
        dora=config.dora,
        num_parameters=num_parameters,
    )


def check_dtypes(tensors: Iterable[TensorEntry]) -> None:
    """Raises UNSUPPORTED_ADAPTER naming the first tensor that is not float32, float16 or bfloat16."""
    for tensor in tensors:
        if tensor.dtype not in _EXPONENT:
            raise unsupported(
                tensor.name, f"{tensor.dtype} is not served: save the adapter as float32, float16 or bfloat16"
            )


def check_finite(file: BinaryIO, tensors: Iterable[TensorEntry]) -> None:
    """Reads every tensor in bounded chunks. Raises INVALID_ADAPTER naming the first with NaN or infinity."""
    for tensor in tensors:
        dtype, exponent = _EXPONENT[tensor.dtype]
        file.seek(tensor.begin)
        left = tensor.end - tensor.begin
        while left:
            chunk = file.read(min(left, SCAN_CHUNK_BYTES))
            if not chunk:
                raise malformed(tensor.name, "the file ended early: upload it again")
            left -= len(chunk)
            if np.any((np.frombuffer(chunk, dtype) & exponent) == exponent):
                raise malformed(
                    tensor.name, "has NaN or infinite values: the training diverged, train it again"
                )


def _check_site(site: Site, rank: int, config: PeftConfig, base_model: BaseModel) -> list[TensorEntry]:
    a, b, magnitude = site.a, site.b, site.magnitude
    if a is None or b is None:
        present = a or b or magnitude
        assert present is not None, "a site is made for a tensor"
        lacking = "A" if a is None else "B"
        raise malformed(present.name, f"LoRA {lacking} of {site.path} is missing: save the adapter again")
    if not config.targets(site.path):
        raise malformed(
            a.name,
            "target_modules in adapter_config.json does not name this module: PEFT would ignore it; add it",
        )
    _check_shapes(site, rank, a, b, base_model)
    _check_magnitude(site, a, config, base_model)
    return [a, b] if magnitude is None else [a, b, magnitude]


def _check_shapes(site: Site, rank: int, a: TensorEntry, b: TensorEntry, base_model: BaseModel) -> None:
    if rank > base_model.max_rank:
        raise mismatch(
            a.name,
            f"rank {rank} is over the {base_model.max_rank} that is served for {base_model.name}: train with "
            "a smaller r, or raise the inference service's ceiling",
        )
    module = site.module
    for tensor, axis, features in ((a, 0, module.in_features), (b, 1, module.out_features)):
        expected = [rank, features] if axis == 0 else [features, rank]
        if len(tensor.shape) != 2 or tensor.shape[axis] != rank:
            raise malformed(
                tensor.name,
                f"shape {list(tensor.shape)} does not have the rank {rank} that adapter_config.json gives "
                f"this module (r, rank_pattern): expected {expected}",
            )
        if tensor.shape[1 - axis] != features:
            raise mismatch(
                tensor.name,
                f"shape {list(tensor.shape)} does not fit {module.name} of {base_model.name}: expected "
                f"{expected}; upload it to an adapter of the base model it was trained on",
            )


def _check_magnitude(site: Site, a: TensorEntry, config: PeftConfig, base_model: BaseModel) -> None:
    magnitude = site.magnitude
    if magnitude is None:
        if config.dora:
            raise malformed(
                a.name,
                f"use_dora is set, but lora_magnitude_vector of {site.path} is missing: save the "
                "adapter again",
            )
        return
    if not config.dora:
        raise malformed(
            magnitude.name, "is there, but use_dora is not set in adapter_config.json: set it to true"
        )
    if magnitude.shape != (site.module.out_features,):
        raise mismatch(
            magnitude.name,
            f"shape {list(magnitude.shape)} does not fit {site.module.name} of {base_model.name}: expected "
            f"[{site.module.out_features}]",
        )
