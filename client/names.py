"""Forms of names: short ones for people, `tenants/acme/adapters/support/versions/3` is `acme/support@3`; and
what a load balancer is told, so that all requests for one adapter reach the same few servers.
"""

import re

ROUTING_HEADER = "x-multilora-adapter"

_SEGMENT = r"[a-z0-9][a-z0-9._-]{0,62}"
_SHORT = re.compile(rf"({_SEGMENT}/{_SEGMENT})(?:@.*)?")


def short_name(name: str) -> str:
    """The short form of an adapter's, version's or alias's full name; anything else as it is."""
    parts = name.split("/")
    if len(parts) < 4 or parts[0] != "tenants" or parts[2] != "adapters":
        return name
    short = f"{parts[1]}/{parts[3]}"
    return f"{short}@{parts[5]}" if len(parts) == 6 else short


def routing_metadata(adapter: str) -> tuple[tuple[str, str], ...]:
    """What a call for `adapter` carries for the balancer: its name without alias or version.

    Nothing for the base model, which every server has, nor for what names no adapter.
    """
    found = _SHORT.fullmatch(short_name(adapter))
    return ((ROUTING_HEADER, found[1]),) if found else ()
