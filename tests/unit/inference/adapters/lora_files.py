"""Adapters as PEFT writes them, made by hand for tests, and a reader that gives them out."""

import hashlib
import json
import threading
from pathlib import Path

import torch
from safetensors.torch import save_file

from kernels.lora_site import LoraSite
from services.common.errors import ServiceError
from services.inference.request import AdapterFile, AdapterKey, ResolvedAdapter

HIDDEN, INNER, VOCAB = 16, 24, 40
SITES = (
    LoraSite(0, "layers.0.self_attn.q_proj", HIDDEN, HIDDEN),
    LoraSite(1, "layers.0.mlp.down_proj", INNER, HIDDEN),
    LoraSite(2, "layers.1.self_attn.q_proj", HIDDEN, HIDDEN),
    LoraSite(3, "layers.1.mlp.down_proj", INNER, HIDDEN),
    LoraSite(4, "embed_tokens", VOCAB, HIDDEN, is_embedding=True),
    LoraSite(5, "lm_head", HIDDEN, VOCAB),
)
Q0 = "base_model.model.model.layers.0.self_attn.q_proj"
DOWN1 = "base_model.model.model.layers.1.mlp.down_proj"
EMBED = "base_model.model.model.embed_tokens"
HEAD = "base_model.model.lm_head"
CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "target_modules": ["q_proj"]}


def linear(module: str, rank: int, width: int = HIDDEN, out: int = HIDDEN, seed: int = 0):
    """A and B of a linear module."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{module}.lora_A.weight": torch.randn(rank, width, generator=generator),
        f"{module}.lora_B.weight": torch.randn(out, rank, generator=generator),
    }


def write(directory: Path, tensors, **config) -> Path:
    """Writes both files to `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "adapter_config.json").write_text(json.dumps(CONFIG | config))
    save_file(tensors, directory / "adapter_model.safetensors")
    return directory


def resolved(directory: Path, name: str = "a") -> ResolvedAdapter:
    """What the store would say of the files in `directory`."""
    files = []
    for path in sorted(directory.iterdir()):
        data = path.read_bytes()
        files.append(AdapterFile(path.name, len(data), hashlib.sha256(data).hexdigest()))
    key = hashlib.sha256(repr(files).encode()).hexdigest()
    return ResolvedAdapter(AdapterKey(key), f"tenants/t/adapters/{name}/versions/1", 4, tuple(files))


class DirectoryReader:
    """Gives out files of directories by version name; `gates` hold a version's reads until set."""

    def __init__(self) -> None:
        self.directories: dict[str, Path] = {}
        self.gates: dict[str, threading.Event] = {}
        self.errors: dict[str, Exception] = {}
        self.reads: list[str] = []
        self.is_closed = False
        self.began = threading.Event()

    def add(self, directory: Path, name: str = "a") -> ResolvedAdapter:
        adapter = resolved(directory, name)
        self.directories[adapter.version_name] = directory
        return adapter

    def read(self, version_name, file, to, cancelled):
        self.reads.append(f"{version_name.split('/')[3]}/{file.path}")
        self.began.set()
        if version_name in self.gates:
            self.gates[version_name].wait()
        if cancelled():
            raise ServiceError("UNAVAILABLE", "STORE_UNAVAILABLE", "stopping")
        if version_name in self.errors:
            raise self.errors[version_name]
        to.write_bytes((self.directories[version_name] / file.path).read_bytes())

    def close(self) -> None:
        self.is_closed = True
        for gate in self.gates.values():
            gate.set()
