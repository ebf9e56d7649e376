"""Sorts a PEFT file's tensors by module, and refuses what does not belong to LoRA."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NoReturn

from services.adapter_store.domain.base_model import BaseModel, Module
from services.adapter_store.domain.fields import quoted
from services.adapter_store.manifest.refusals import malformed, mismatch, unsupported
from services.adapter_store.manifest.safetensors_header import TensorEntry

EMBEDDING = "embed_tokens"

_TENSOR = re.compile(
    r"base_model\.model\.(?P<path>.+)\."
    r"(?:(?P<linear>lora_[AB])\.weight|lora_embedding_(?P<embedding>[AB])|(?P<magnitude>lora_magnitude_vector)(?:\.weight)?)"
)
_LAYER = re.compile(r"model\.layers\.(?P<layer>0|[1-9][0-9]{0,5})\.(?P<module>.+)")


@dataclass(slots=True)
class Site:
    """One module of the base model, at `path` in the model, and the tensors that adapt it."""

    path: str
    module: Module
    a: TensorEntry | None = None
    b: TensorEntry | None = None
    magnitude: TensorEntry | None = None


def sort_by_site(tensors: Iterable[TensorEntry], base_model: BaseModel) -> dict[str, Site]:
    """The sites of an adapter by path.

    Raises INVALID_ADAPTER for a tensor that is no part of LoRA or given twice, UNSUPPORTED_ADAPTER for
    a bias, BASE_MODEL_MISMATCH for a module or layer that the base model lacks.
    """
    modules = {module.name: module for module in base_model.modules}
    sites: dict[str, Site] = {}
    for tensor in tensors:
        found = _TENSOR.fullmatch(tensor.name)
        if found is None:
            _refuse(tensor.name)
        path = found["path"]
        site = sites.get(path)
        if site is None:
            site = sites[path] = Site(path, _module(tensor.name, path, modules, base_model))
        if not found["magnitude"] and bool(found["embedding"]) != (site.module.name == EMBEDDING):
            raise malformed(
                tensor.name,
                f"{EMBEDDING} takes lora_embedding_A and lora_embedding_B, every other module lora_A.weight "
                "and lora_B.weight; save the adapter again with PEFT's save_pretrained",
            )
        role = "magnitude" if found["magnitude"] else (found["embedding"] or found["linear"][-1]).lower()
        if getattr(site, role) is not None:
            raise malformed(tensor.name, f"the same tensor of {path} is there under another name: keep one")
        setattr(site, role, tensor)
    return sites


def _module(tensor_name: str, path: str, modules: dict[str, Module], base_model: BaseModel) -> Module:
    in_layer = _LAYER.fullmatch(path)
    if in_layer is not None:
        name = in_layer["module"]
        if int(in_layer["layer"]) >= base_model.num_layers:
            raise mismatch(
                tensor_name,
                f"layer {in_layer['layer']} is not in {quoted(base_model.name)}, which has "
                f"{base_model.num_layers} layers: upload it to an adapter of the base model that it was "
                "trained on",
            )
    else:
        name = {"model.embed_tokens": EMBEDDING, "lm_head": "lm_head"}.get(path, "")
    module = modules.get(name)
    if module is None or (in_layer is not None) == (name in (EMBEDDING, "lm_head")):
        raise mismatch(
            tensor_name,
            f"{quoted(base_model.name)} has no module {quoted(path)} that takes LoRA; it has "
            f"{', '.join(sorted(modules))}: train on these, or upload to an adapter of the right base model",
        )
    return module


def _refuse(name: str) -> NoReturn:
    if name.endswith(".base_layer.weight"):
        raise unsupported(
            name, "is a copy of the base model's own weights, which PEFT does not save: leave it out"
        )
    if name.endswith((".lora_A.bias", ".lora_B.bias")):
        raise unsupported(name, "is a bias, which is not served: train the adapter with lora_bias=False")
    raise malformed(
        name,
        "is no LoRA tensor as PEFT's save_pretrained names them (base_model.model.<module>.lora_A.weight): "
        "save the adapter again with it, or train without modules_to_save",
    )
