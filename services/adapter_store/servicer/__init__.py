"""The gRPC surface: the only package of the store that knows gRPC and the generated stubs."""

from services.adapter_store.servicer.registration import SERVICE_NAME, add_to_server, store_gate

__all__ = ["SERVICE_NAME", "add_to_server", "store_gate"]
