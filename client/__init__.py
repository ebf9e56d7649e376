"""The Python client library, and in `client.command` the `multilora` command.

`from multilora import InferenceClient, StoreClient` is the same thing under the product's name.
"""

from client.access import AuditEntry, CreatedToken, Quotas, Role, Tenant, TenantUsage, Token, TrustedKey
from client.credentials import Credentials
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
    Change,
    ChangeBatch,
    ChangeKind,
    CollectGarbageResponse,
    Flags,
    Lease,
    Lineage,
    Module,
    Shadow,
    TrafficTarget,
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
    "AuditEntry",
    "BaseModel",
    "Change",
    "ChangeBatch",
    "ChangeKind",
    "ChatMessage",
    "CollectGarbageResponse",
    "CreatedToken",
    "Credentials",
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
    "Quotas",
    "Residency",
    "ResidentAdapter",
    "Role",
    "SamplingParams",
    "Shadow",
    "Started",
    "Stats",
    "StoreClient",
    "Tenant",
    "TenantUsage",
    "Timing",
    "Token",
    "TokenLogprob",
    "TokenLogprobs",
    "TrafficTarget",
    "TrustedKey",
    "UploadProgress",
    "Usage",
    "VersionFile",
    "VersionState",
]
