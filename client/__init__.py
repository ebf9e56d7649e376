"""The Python client library and the `multilora` command."""
