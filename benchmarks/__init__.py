"""Benchmarks of the engine alone, on the machine at hand; must need no service and no network."""
