"""The whole service as real processes, for one benchmark: the only part of `benchmarks` that knows stubs."""
