"""`python -m services.adapter_store.migrations MESSAGE`: writes the migration that tables.py asks for.

Without MESSAGE it writes the first migration anew, from tables.py alone: only while nothing is released.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from alembic import command
from alembic.script import Script

from services.adapter_store.metadata.engine import normalised, open_for_migration
from services.adapter_store.metadata.schema import MIGRATIONS, config, migrate

FIRST = "0001"


def main(argv: Sequence[str]) -> int:
    """Writes one file into versions/, and says which."""
    message = " ".join(argv)
    versions = MIGRATIONS / "versions"
    with tempfile.TemporaryDirectory() as scratch:
        url = f"sqlite:///{Path(scratch) / 'scratch.sqlite3'}"
        if message:
            migrate(url)
            number = f"{sum(1 for _ in versions.glob('[0-9]*.py')) + 1:04}"
        else:
            for old in versions.glob(f"{FIRST}_*.py"):
                old.unlink()
            number, message = FIRST, "Initial tables"
        engine = open_for_migration(normalised(url))
        with engine.connect() as connection, connection.begin():
            script = command.revision(config(connection), message, autogenerate=True, rev_id=number)
        engine.dispose()
    assert isinstance(script, Script), "one revision was asked for"
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", script.path], check=True)
    print(f"wrote {script.path}: read it before you commit it")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
