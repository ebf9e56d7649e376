"""Short forms of names, for people: `tenants/acme/adapters/support/versions/3` is `acme/support@3`."""


def short_name(name: str) -> str:
    """The short form of an adapter's, version's or alias's full name; anything else as it is."""
    parts = name.split("/")
    if len(parts) < 4 or parts[0] != "tenants" or parts[2] != "adapters":
        return name
    short = f"{parts[1]}/{parts[3]}"
    return f"{short}@{parts[5]}" if len(parts) == 6 else short
