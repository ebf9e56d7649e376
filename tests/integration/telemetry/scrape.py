"""Scrapes a metrics endpoint as Prometheus does."""

import re
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(address: str) -> Samples:
    """Every sample by name and labels."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def families(samples: Samples) -> set[str]:
    """Names of ours as docs/telemetry.md has them: histograms without their parts."""
    parts = ("_bucket", "_count", "_sum", "_created")
    histograms = {name.removesuffix("_bucket") for name, _ in samples if name.endswith("_bucket")}
    names = set()
    for name, _ in samples:
        stem = next((name.removesuffix(part) for part in parts if name.endswith(part)), name)
        names.add(stem if stem in histograms else name)
    return {name for name in names if name.startswith(("multilora_", "vllm:"))}


def documented(heading: str) -> set[str]:
    """The metrics that the section of docs/telemetry.md names."""
    text = Path("docs/telemetry.md").read_text()
    section = text.partition(f"### {heading}\n")[2].partition("\n### ")[0].partition("\n## ")[0]
    return set(re.findall(r"`((?:multilora_|vllm:)[a-z_]+)`", section))


def value(samples: Samples, name: str, **labels: str) -> float:
    """One sample; KeyError if there is none."""
    return samples[name, frozenset(labels.items())]
