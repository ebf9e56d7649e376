"""How long one file may take on its way here. Must not know which way that is."""

# A start, and then a rate that any network should give.
START_S = 30.0
BYTES_PER_S = 1 << 20


def most_read_s(size_bytes: int) -> float:
    """So long at most: who is slower would keep a thread that others wait for."""
    return START_S + size_bytes / BYTES_PER_S
