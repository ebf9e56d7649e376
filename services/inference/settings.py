"""Settings of the inference service: what `multilora serve --help` lists."""

import math
from dataclasses import dataclass
from pathlib import Path

from services.common.server_settings import ServerSettings
from services.common.settings import existing_dir, setting
from services.inference.adapters.store_link import StoreLink
from services.inference.signing_rules import PinnedKeys, read_trusted_keys

# More end the engine process inside torch, without a word.
MAX_THREADS = 1024
# The adapter store takes no base model with a higher ceiling.
MAX_RANK = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ServerSettings):
    """Everything a server is started with; checked when made (ValueError names the flag)."""

    model: Path = setting(help="model directory: config.json, safetensors, tokenizer.json")
    store: str = setting("127.0.0.1:7001", help="address of the adapter store")
    store_ca_file: Path | None = setting(None, help="PEM of the store's CAs: speak TLS with it")
    store_cert_file: Path | None = setting(None, help="PEM of this service's certificate for the store")
    store_key_file: Path | None = setting(None, help="PEM of that certificate's key")
    store_token_file: Path | None = setting(
        None, help="file with this service's token for the store: of tenants/*, PUBLISHER"
    )
    trusted_keys_file: Path | None = setting(
        None,
        help="serve only adapters signed with a key of this file, whatever the store says: lines of TENANT "
        "KEY_ID PUBLIC_KEY; default: as each tenant asks the store for",
    )
    store_plaintext_token: bool = setting(False, help="send that token to another machine without TLS")
    listen: str = setting("127.0.0.1:7000", help="address to serve on; port 0 picks a free one")
    base_model: str = setting("", help="name to register the model under; default: the directory's name")
    device: str = setting("cpu", help="where to compute", choices=("cpu", "cuda"))
    dtype: str = setting(
        "", help="default: float32 on cpu, bfloat16 on cuda", choices=("", "float32", "bfloat16")
    )
    pool_bytes: int = setting(
        0, help="size of the page pool; 0: 256 MiB on cpu, most of what is free on cuda"
    )
    page_tokens: int = setting(16, help="tokens of KV that one page holds")
    host_cache_bytes: int = setting(
        1 << 30, help="host memory for packed adapters; up to a quarter more for those on their way"
    )
    cache_dir: Path | None = setting(None, help="directory for fetched adapters; default: a temporary one")
    disk_cache_bytes: int = setting(16 << 30, help="disk space for fetched adapters")
    max_rank: int = setting(64, help="adapters over this rank are refused")
    max_context_tokens: int = setting(0, help="prompt and output together; 0: what the model was made for")
    max_batch_tokens: int = setting(2048, help="tokens of one step, prefill and decode together")
    max_batch_requests: int = setting(256, help="requests that run at once")
    max_queue: int = setting(1024, help="requests that may wait; more are refused with RESOURCE_EXHAUSTED")
    direct_reads: bool = setting(
        True, help="fetch files straight from the store's object storage where it hands out URLs"
    )
    direct_reads_ca_file: Path | None = setting(None, help="PEM of the CA that vouches for object storage")
    max_shadows: int = setting(
        16, help="sampled copies of requests that run at once, for aliases with a shadow; 0: none"
    )
    fetch_threads: int = setting(4, help="adapters fetched from the store at once")
    disk_threads: int = setting(2, help="adapters read from --cache-dir at once")
    threads: int = setting(0, help="CPU threads for the model; 0: one a core, less one for the front end")
    metrics_tenants: int = setting(
        100, help="tenants that the metrics tell apart; later ones are counted together as _other"
    )
    vllm_metrics: bool = setting(
        False, help="also serve the metrics of vLLM that the Gateway API Inference Extension scrapes"
    )
    drain_grace_s: float = setting(
        30.0,
        help="how long running streams may go on after SIGTERM; those that do are ended with UNAVAILABLE",
    )
    max_engine_restarts: int = setting(
        5,
        help="times that a crashed engine process is started again, each after a longer pause, before the "
        "service ends with 1; one that has served for ten minutes clears the count",
    )
    log_level: str = setting("info", help="least level logged", choices=("debug", "info", "warning", "error"))

    def __post_init__(self) -> None:
        existing_dir(self.model, "model")
        self.store_link.check()
        if self.trusted_keys_file is not None and not self.trusted_keys_file.is_file():
            raise ValueError(f"--trusted-keys-file: {self.trusted_keys_file} is not a file")
        self.pinned_keys()
        self.check_exposure(self.listen)
        for name in (
            "page_tokens",
            "max_rank",
            "max_batch_tokens",
            "max_batch_requests",
            "max_queue",
            "fetch_threads",
            "disk_threads",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')}: must be at least 1, not {getattr(self, name)}")
        for name in (
            "max_context_tokens",
            "max_shadows",
            "threads",
            "drain_grace_s",
            "max_engine_restarts",
            "metrics_tenants",
        ):
            # So written that NaN is refused too.
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"--{name.replace('_', '-')}: must be a number from 0")
        if not self.base_model_name.isprintable():
            raise ValueError(f"--base-model: {self.base_model_name!r} cannot be shown: give a plain name")
        for name, most in (("threads", MAX_THREADS), ("max_rank", MAX_RANK)):
            if getattr(self, name) > most:
                raise ValueError(f"--{name.replace('_', '-')}: must be at most {most}")
        if self.vllm_metrics and self.metrics_port is None:
            raise ValueError("--vllm-metrics: needs --metrics-port")
        if self.page_tokens & (self.page_tokens - 1):
            raise ValueError(f"--page-tokens: must be a power of two, not {self.page_tokens}")

    @property
    def store_link(self) -> StoreLink:
        """How to reach the store."""
        return StoreLink(
            self.store,
            self.store_ca_file,
            self.store_cert_file,
            self.store_key_file,
            self.store_token_file,
            self.store_plaintext_token,
        )

    def pinned_keys(self) -> PinnedKeys | None:
        """The only keys that count; None: what the store says. Raises ValueError naming the line at fault."""
        return None if self.trusted_keys_file is None else read_trusted_keys(self.trusted_keys_file)

    @property
    def base_model_name(self) -> str:
        """The name this model registers under."""
        return self.base_model or self.model.resolve().name

    @property
    def dtype_name(self) -> str:
        """The dtype with the device's default filled in."""
        return self.dtype or ("bfloat16" if self.device == "cuda" else "float32")
