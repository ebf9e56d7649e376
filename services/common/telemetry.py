"""Logging of a service: one line a record on stderr, with time, level and place.

Must never be given prompts, tokens of text, or secrets.
"""

import logging
import sys


def set_up_logging(level: str, process: str) -> None:
    """Sends all logs of this process to stderr under the name `process`."""
    logging.basicConfig(
        level=level.upper(),
        stream=sys.stderr,
        format=f"%(asctime)s %(levelname)s {process} %(name)s: %(message)s",
        force=True,
    )
