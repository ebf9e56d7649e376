"""The demo: a small real model, adapters trained on it, and a run that shows them served together."""
