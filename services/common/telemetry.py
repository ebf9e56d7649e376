"""Logging of a service: one line a record on stderr, with time, level and place, and the trace it belongs to.

Must never be given prompts, tokens of text, or secrets.
"""

import json
import logging
import sys
from datetime import UTC, datetime

from services.common.trace_context import current


def set_up_logging(level: str, process: str, log_format: str = "text") -> None:
    """Sends all logs of this process to stderr under the name `process`, as lines of `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines(process) if log_format == "json" else _TextLines(process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class _TextLines(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {process} %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        context, line = current(), super().formatMessage(record)
        return line if context is None else f"{line} trace={context.trace_id}"


class _JsonLines(logging.Formatter):
    """One object a record; `trace_id` and `span_id` as OpenTelemetry names them, where there is a trace."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message holds."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        context = current()
        if context is not None:
            fields |= {"trace_id": context.trace_id, "span_id": context.span_id}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)
