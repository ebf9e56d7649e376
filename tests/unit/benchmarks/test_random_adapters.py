"""Adapters written by hand are what the engine's own reader reads, and no two are alike."""

from pathlib import Path

import torch

from benchmarks.local_engine import resolved
from benchmarks.random_adapters import num_adapter_bytes, write_many_adapters, write_random_adapters
from benchmarks.random_model import write_config
from benchmarks.shape import TINY
from services.inference.adapters.adapter_weights import read_adapter_weights
from services.inference.model.config import read_config
from services.inference.model.sites import lora_sites


def test_the_engine_reads_them_with_their_ranks(tmp_path: Path):
    write_config(tmp_path, TINY.config)
    config = read_config(tmp_path)
    adapters = write_random_adapters(tmp_path / "adapters", config, [4, 8, 4])
    assert len({adapter.key for adapter in adapters}) == 3
    weights = [read_adapter_weights(Path(a.version_name), lora_sites(config), 8) for a in adapters]
    assert [one.rank for one in weights] == [4, 8, 4]
    assert all(len(one.sites) == 7 * config.num_layers for one in weights)
    assert all(site.scale == 2.0 for one in weights for site in one.sites)
    for first, last in zip(weights[0].sites, weights[2].sites, strict=True):
        assert not torch.isclose(first.a_RI, last.a_RI).all(dim=1).any(), "a row of one is a row of another"
        assert 0.01 < float(first.b_RO.float().std()) < 0.03
    stored = sum(site.a_RI.nbytes + site.b_RO.nbytes for site in weights[1].sites)
    assert stored == num_adapter_bytes(config, 8)


def test_a_second_call_finds_the_same_and_writes_nothing(tmp_path: Path):
    write_config(tmp_path, TINY.config)
    config = read_config(tmp_path)
    first = write_random_adapters(tmp_path / "adapters", config, [4, 4])
    files = sorted((tmp_path / "adapters").rglob("*.safetensors"))
    times = [file.stat().st_mtime_ns for file in files]
    assert write_random_adapters(tmp_path / "adapters", config, [4, 4]) == first
    assert [file.stat().st_mtime_ns for file in files] == times
    assert [resolved(Path(adapter.version_name)) for adapter in first] == first


def test_many_adapters_over_few_files_have_keys_of_their_own(tmp_path: Path):
    write_config(tmp_path, TINY.config)
    config = read_config(tmp_path)
    for _ in range(2):
        adapters = write_many_adapters(tmp_path / "many", config, [2, 4], num_adapters=10, num_files=5)
    assert len({adapter.key for adapter in adapters}) == 10
    assert len({adapter.files[1].sha256 for adapter in adapters}) == 4
    ranks = [
        read_adapter_weights(Path(adapter.version_name), lora_sites(config), 8).rank for adapter in adapters
    ]
    assert ranks == [2, 4] * 5
