"""Which texts a database can hold at all: PostgreSQL takes no NUL, so no row is called by a text with one."""


def is_storable(text: str) -> bool:
    """Whether a row's name could be `text`."""
    return "\0" not in text
