"""Which entries of the audit log somebody asks for."""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from services.adapter_store.domain.fields import check_text
from services.common.errors import invalid_field

MAX_PREFIX_CHARS = 512


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Those of resources whose names begin so, from `start` on and before `end`; by default all."""

    resource_prefix: str = ""
    start: datetime | None = None
    end: datetime | None = None

    def check(self) -> None:
        """Raises INVALID_FIELD."""
        check_text(self.resource_prefix, "resource_prefix", max_chars=MAX_PREFIX_CHARS)
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise invalid_field("end_time", "must be after start_time")

    @property
    def scope(self) -> str:
        """The same for the same filter: a page token is good for one alone."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]
