"""The gRPC surface: the only package of the store that knows gRPC and the generated stubs."""

from services.adapter_store.servicer.servicer import SERVICE_NAME, AdapterStoreServicer, add_to_server

__all__ = ["SERVICE_NAME", "AdapterStoreServicer", "add_to_server"]
