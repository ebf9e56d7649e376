"""Trains and measures everything under demo/model and demo/adapters."""
