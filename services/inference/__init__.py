"""Streams tokens of one base model and any number of LoRA adapters over it."""
