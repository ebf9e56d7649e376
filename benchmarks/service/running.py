"""Starts and stops the whole service: store, front end and engine process, clients. Must time nothing."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

from benchmarks.service.client_load import ClientProcesses, client_processes
from benchmarks.service.directory_store import serve_directories
from benchmarks.service.random_server import LISTENING
from benchmarks.service.word_tokenizer import write_word_tokenizer
from services.inference.request import ResolvedAdapter
from services.inference.settings import Settings

STOP_TIMEOUT_S = 60.0
# Of the machine's cores; the engine, the front end and the store need the others.
CLIENT_SHARE = 8


@contextmanager
def running_service(
    settings: Settings, vocab_size: int, adapters: Sequence[ResolvedAdapter]
) -> Iterator[ClientProcesses]:
    """Clients of a service with `settings`, whose store holds `adapters`, until the end of the block."""
    write_word_tokenizer(settings.model, vocab_size)
    with serve_directories(adapters, settings.base_model_name) as store:
        settings = replace(settings, store=store, listen="127.0.0.1:0", log_level="warning")
        with _server(settings) as address:
            num_processes = max(1, (os.cpu_count() or 1) // CLIENT_SHARE)
            with client_processes(num_processes, address) as clients:
                yield clients


@contextmanager
def _server(settings: Settings) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.service.random_server", *flags(settings)]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith(LISTENING):
            raise RuntimeError(f"the service did not start: {line!r}; its own words are above")
        yield line.removeprefix(LISTENING).strip()
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()


def flags(settings: Settings) -> list[str]:
    """The command line that gives `settings`; what is left at its default is left out."""
    found = []
    for field in fields(settings):
        value = getattr(settings, field.name)
        if value != field.default:
            found += [f"--{field.name.replace('_', '-')}", str(value)]
    return found
