"""The Python client library, and in `client.command` the `multilora` command.

`from multilora import InferenceClient, StoreClient` is the same thing under the product's name.
"""

from client.errors import MultiloraError
from client.events import Delta, Finished, FinishReason, Started, Timing, TokenLogprob, TokenLogprobs, Usage
from client.generate_stream import GenerateStream, Generation
from client.inference_client import InferenceClient
from client.registry import (
    Adapter,
    AdapterVersion,
    Alias,
    AliasMove,
    BaseModel,
    CollectGarbageResponse,
    Flags,
    Lease,
    Lineage,
    Module,
    VersionFile,
    VersionState,
)
from client.sampling import ChatMessage, SamplingParams
from client.serving import Model, Residency, ResidentAdapter, Stats
from client.store_client import StoreClient
from client.upload import UploadProgress

__all__ = [
    "Adapter",
    "AdapterVersion",
    "Alias",
    "AliasMove",
    "BaseModel",
    "ChatMessage",
    "CollectGarbageResponse",
    "Delta",
    "FinishReason",
    "Finished",
    "Flags",
    "GenerateStream",
    "Generation",
    "InferenceClient",
    "Lease",
    "Lineage",
    "Model",
    "Module",
    "MultiloraError",
    "Residency",
    "ResidentAdapter",
    "SamplingParams",
    "Started",
    "Stats",
    "StoreClient",
    "Timing",
    "TokenLogprob",
    "TokenLogprobs",
    "UploadProgress",
    "Usage",
    "VersionFile",
    "VersionState",
]
