"""The `multilora` command."""
