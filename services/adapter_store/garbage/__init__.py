"""What nothing refers to, and how it goes: leases that keep bytes, deletion, collection."""

from services.adapter_store.garbage.collection import Collector
from services.adapter_store.garbage.deletion import claim, delete_condemned
from services.adapter_store.garbage.leases import Leases

__all__ = ["Collector", "Leases", "claim", "delete_condemned"]
