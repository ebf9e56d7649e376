"""adapter_model.safetensors as A, B transposed, scale and magnitude of every site it touches.

Legend: R rank, I in_features, O out_features, K features of a stored tensor. Must not know the pool.
The store has checked all this; it is checked again, because a wrong shape here is a wrong read of
another tenant's page.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kernels.lora_site import LoraSite
from services.common.errors import Code, Reason, ServiceError
from services.inference.adapters.finite import is_finite
from services.inference.adapters.peft_config import PeftConfig, invalid, parse_peft_config, unsupported
from services.inference.adapters.read_buffers import Bytes
from services.inference.adapters.safetensors_view import view_tensors
from services.inference.adapters.workers import Workers
from services.inference.model.sites import EMBED_TOKENS, LM_HEAD

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."
A, B, MAGNITUDE, BASE = "A", "B", "magnitude", "base"
# What PEFT appends to a module's path. Longer ones first: some end in a shorter one.
_ROLES = {
    ".lora_magnitude_vector.weight": MAGNITUDE,
    ".lora_magnitude_vector": MAGNITUDE,
    ".lora_embedding_A": A,
    ".lora_embedding_B": B,
    ".lora_A.weight": A,
    ".lora_B.weight": B,
    ".base_layer.weight": BASE,
    ".weight": BASE,
}
_EMBEDDING_SUFFIXES = (".lora_embedding_A", ".lora_embedding_B")
_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


Named = dict[str, tuple[str, Tensor]]


@dataclass(frozen=True, slots=True)
class SiteWeights:
    """One site's weights on the host, in the file's dtype: delta = scale * (x A^T) B.

    `magnitude_O` is DoRA's m.
    """

    site: LoraSite
    rank: int
    scale: float
    a_RI: Tensor
    b_RO: Tensor
    magnitude_O: Tensor | None = None


@dataclass(frozen=True, slots=True)
class BaseCopy:
    """The adapter's own copy of an embedding's base weight; served only if it equals the base's."""

    name: str
    site: LoraSite
    weight_OI: Tensor


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """All that an adapter's files hold, in the order of the sites."""

    sites: tuple[SiteWeights, ...]
    base_copies: tuple[BaseCopy, ...] = ()

    @property
    def rank(self) -> int:
        """The largest rank of any site."""
        return max(site.rank for site in self.sites)


def read_adapter_weights(directory: Path, sites: Sequence[LoraSite], max_rank: int) -> AdapterWeights:
    """Reads the two files in `directory`, which nobody checked; otherwise as `parse_adapter_weights`."""
    contents = []
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        try:
            contents.append(np.fromfile(directory / name, dtype=np.uint8))
        except OSError as error:
            raise invalid(name, f"cannot be read: {error}") from error
    return parse_adapter_weights(contents[0], contents[1], sites, max_rank, Workers(1))


def parse_adapter_weights(
    config_file: Bytes, weights_file: Bytes, sites: Sequence[LoraSite], max_rank: int, workers: Workers
) -> AdapterWeights:
    """What the bytes of the two files say; the tensors are views of `weights_file`.

    Raises ServiceError naming the tensor or key that is wrong, unknown or not served.
    """
    config = parse_peft_config(config_file.tobytes(), CONFIG_FILE)
    tensors = _view_tensors(weights_file)
    by_module = _by_module(tensors, {_module_path(site): site for site in sites})
    weights: list[SiteWeights] = []
    base_copies: list[BaseCopy] = []
    for site in sites:
        found = by_module.get(_module_path(site), {})
        if BASE in found:
            base_copies.append(_base_copy(site, *found.pop(BASE)))
        if found:
            weights.append(_site_weights(site, found, config, max_rank))
    if not weights:
        raise invalid(WEIGHTS_FILE, "has no LoRA weights")
    _check_finite(tensors, workers)
    return AdapterWeights(tuple(weights), tuple(base_copies))


def _view_tensors(weights_file: Bytes) -> dict[str, Tensor]:
    try:
        return view_tensors(weights_file)
    except ValueError as error:
        raise invalid(WEIGHTS_FILE, f"cannot be read: {error}") from error


def _check_finite(tensors: dict[str, Tensor], workers: Workers) -> None:
    are_finite = workers.map(is_finite, tuple(tensors.values()))
    for name, finite in zip(tensors, are_finite, strict=True):
        if not finite:
            raise invalid(name, "has NaN or infinite values")


def _by_module(tensors: dict[str, Tensor], modules: dict[str, LoraSite]) -> dict[str, Named]:
    by_module: dict[str, Named] = {}
    for name, tensor in tensors.items():
        module, role = _parse_name(name, modules)
        named = by_module.setdefault(module, {})
        if role in named:
            raise invalid(name, f"is there twice, also as {named[role][0]}")
        if tensor.dtype not in _DTYPES:
            raise unsupported(name, f"{tensor.dtype} is not served; save as float32, float16 or bfloat16")
        named[role] = (name, tensor)
    return by_module


def _module_path(site: LoraSite) -> str:
    return site.name if site.name == LM_HEAD else f"model.{site.name}"


def _parse_name(name: str, modules: dict[str, LoraSite]) -> tuple[str, str]:
    for suffix, role in _ROLES.items():
        if not (name.startswith(PREFIX) and name.endswith(suffix)):
            continue
        module = name[len(PREFIX) : -len(suffix)]
        site = modules.get(module)
        if site is None:
            raise _mismatch(name, f"the base model has no module {module} that LoRA could target")
        is_embedding_tensor = suffix in _EMBEDDING_SUFFIXES
        if role in (A, B) and is_embedding_tensor != site.is_embedding:
            raise invalid(name, "holds LoRA of a linear module for an embedding, or the reverse")
        if role is BASE and site.name not in (EMBED_TOKENS, LM_HEAD):
            break
        return module, role
    raise unsupported(name, "unknown tensor: only LoRA's A and B and DoRA's magnitude are served")


def _base_copy(site: LoraSite, name: str, weight: Tensor) -> BaseCopy:
    weight_OI = weight.T if site.is_embedding else weight
    _check_shape(name, weight_OI, (site.out_features, site.in_features))
    return BaseCopy(name, site, weight_OI)


def _site_weights(site: LoraSite, found: Named, config: PeftConfig, max_rank: int) -> SiteWeights:
    module = _module_path(site)
    rank = config.rank(module)
    if rank > max_rank:
        message = f"{module} has rank {rank}, and the server takes at most {max_rank}: raise --max-rank"
        raise ServiceError(Code.FAILED_PRECONDITION, Reason.ADAPTER_NOT_LOADABLE, message, field=module)
    missing = {A, B, *([MAGNITUDE] if config.use_dora else [])} - found.keys()
    if missing:
        raise invalid(f"{PREFIX}{module}", f"its LoRA {' and '.join(sorted(missing))} is missing")
    if MAGNITUDE in found and not config.use_dora:
        raise invalid(found[MAGNITUDE][0], "is DoRA's, and the config says use_dora: false")
    _check_shape(*found[A], (rank, site.in_features))
    _check_shape(*found[B], (site.out_features, rank))
    magnitude_O = None
    if config.use_dora:
        name, magnitude = found[MAGNITUDE]
        magnitude_O = magnitude.reshape(-1) if magnitude.ndim == 2 and 1 in magnitude.shape else magnitude
        _check_shape(name, magnitude_O, (site.out_features,))
    return SiteWeights(site, rank, config.scale(module), found[A][1], found[B][1].T, magnitude_O)


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise _mismatch(
            name, f"has shape {list(tensor.shape)}, and the base model and config want {list(shape)}"
        )


def _mismatch(name: str, message: str) -> ServiceError:
    return ServiceError(
        Code.FAILED_PRECONDITION, Reason.BASE_MODEL_MISMATCH, f"{name}: {message}", field=name
    )
