"""What nothing refers to, and how it goes: leases that keep bytes, deletion, collection."""

from services.adapter_store.garbage.deletion import claim, delete_condemned

__all__ = ["claim", "delete_condemned"]
