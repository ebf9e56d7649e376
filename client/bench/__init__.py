"""Load tests of an inference server over gRPC: no adapter, one adapter and many, in one run."""
