"""PEFT directories of random weights on every linear module: many, distinct, and written fast.

A file is a header and a window of one random buffer; each adapter's window starts elsewhere, so no two
adapters hold the same weights. Format: safetensors. Must not know the engine's pages.
"""

import hashlib
import json
import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from benchmarks.local_engine import resolved_files
from benchmarks.random_model import WEIGHT_STD
from services.inference.adapters.adapter_weights import CONFIG_FILE, WEIGHTS_FILE
from services.inference.model.config import ModelConfig
from services.inference.request import AdapterFile, ResolvedAdapter

ELEMENT_BYTES = 2
# Where the next adapter's window starts: no multiple of a width, so that no row is another's row.
WINDOW_STRIDE_ELEMENTS = 1009
NUM_THREADS = 8


def write_random_adapters(
    root: Path, config: ModelConfig, ranks: Sequence[int], seed: int = 1
) -> list[ResolvedAdapter]:
    """Adapter i has ranks[i], bfloat16, alpha = 2 r. Files of an earlier call are used again."""
    shapes = {rank: tensor_shapes(config, rank) for rank in set(ranks)}
    longest = max(sum(rows * columns for _, rows, columns in tensors) for tensors in shapes.values())
    generator = torch.Generator().manual_seed(seed)
    num_elements = longest + len(ranks) * WINDOW_STRIDE_ELEMENTS
    random = torch.empty(num_elements, dtype=torch.float32).normal_(0.0, WEIGHT_STD, generator=generator)
    buffer = memoryview(random.bfloat16().view(torch.uint8).numpy())  # type: ignore[arg-type]

    def write(index: int) -> ResolvedAdapter:
        rank = ranks[index]
        directory = root / f"{index:04d}-rank{rank}"
        directory.mkdir(parents=True, exist_ok=True)
        header, num_bytes = _header(shapes[rank])
        start = index * WINDOW_STRIDE_ELEMENTS * ELEMENT_BYTES
        window = buffer[start : start + num_bytes]
        config_file = _write(directory / CONFIG_FILE, _peft_config(rank))
        return resolved_files(directory, [config_file, _write(directory / WEIGHTS_FILE, header, window)])

    with ThreadPoolExecutor(NUM_THREADS) as threads:
        return list(threads.map(write, range(len(ranks))))


def write_many_adapters(
    root: Path, config: ModelConfig, ranks: Sequence[int], num_adapters: int, num_files: int
) -> list[ResolvedAdapter]:
    """`num_adapters` adapters that no two caches hold as one, over the weights of `num_files` at most.

    Adapter i has rank ranks[i % len(ranks)]. Those that share weights differ in alpha.
    """
    num_files = min(num_adapters, num_files - num_files % len(ranks) or len(ranks))
    # None of them may be an adapter that another table has brought in.
    file_ranks = [ranks[i % len(ranks)] for i in range(num_files)]
    originals = write_random_adapters(root, config, file_ranks, seed=2)
    found = list(originals)
    for index in range(num_files, num_adapters):
        original = Path(originals[index % num_files].version_name)
        weights = next(f for f in originals[index % num_files].files if f.path == WEIGHTS_FILE)
        directory = root / f"{index:04d}-as-{original.name}"
        directory.mkdir(exist_ok=True)
        if not (directory / WEIGHTS_FILE).exists():
            os.link(original / WEIGHTS_FILE, directory / WEIGHTS_FILE)
        rank = ranks[index % len(ranks)]
        config_file = _write(directory / CONFIG_FILE, _peft_config(rank, 2 + 2 * (index // num_files)))
        found.append(resolved_files(directory, [config_file, weights]))
    return found


def tensor_shapes(config: ModelConfig, rank: int) -> list[tuple[str, int, int]]:
    """(name, rows, columns) of every tensor of an adapter of `rank`, in the file's order."""
    tensors = []
    for layer in range(config.num_layers):
        for module in config.layer_modules():
            prefix = f"base_model.model.model.layers.{layer}.{module.name}"
            tensors.append((f"{prefix}.lora_A.weight", rank, module.in_features))
            tensors.append((f"{prefix}.lora_B.weight", module.out_features, rank))
    return tensors


def num_adapter_bytes(config: ModelConfig, rank: int) -> int:
    """Bytes of an adapter's weights."""
    return ELEMENT_BYTES * sum(rows * columns for _, rows, columns in tensor_shapes(config, rank))


def _header(tensors: Sequence[tuple[str, int, int]]) -> tuple[bytes, int]:
    entries, offset = {}, 0
    for name, rows, columns in tensors:
        end = offset + rows * columns * ELEMENT_BYTES
        entries[name] = {"dtype": "BF16", "shape": [rows, columns], "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text, offset


def _peft_config(rank: int, alpha_over_rank: int = 2) -> bytes:
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    fields = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha_over_rank * rank,
        "target_modules": targets,
        "bias": "none",
    }
    return json.dumps(fields).encode()


def _write(path: Path, *parts: bytes | memoryview) -> AdapterFile:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    num_bytes = sum(len(part) for part in parts)
    if not path.is_file() or path.stat().st_size != num_bytes:
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("wb") as file:
            for part in parts:
                file.write(part)
        os.replace(unfinished, path)
    return AdapterFile(path.name, num_bytes, digest.hexdigest())
