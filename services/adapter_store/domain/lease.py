"""A lease: which AdapterKeys somebody holds, and until when their bytes are kept for him."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """One holder's lease; its keys are only counted here, they may be many."""

    id: str
    holder: str
    num_keys: int
    expire_time: datetime
