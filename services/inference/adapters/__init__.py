"""Makes an AdapterKey resident: store -> disk -> host -> pool pages, off the engine's loop."""
