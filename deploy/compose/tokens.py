"""One-shot job in the store's image: the first operator's token, and the inference service's, as files."""

import subprocess
import sys
from pathlib import Path

DIRECTORY = Path("/run/multilora")
OPERATOR, INFERENCE = DIRECTORY / "operator.token", DIRECTORY / "inference.token"


def keep(path: Path, *command: str) -> None:
    """Puts the first line that `multilora COMMAND` prints into `path`, unless it is there."""
    if path.exists():
        return
    done = subprocess.run(
        [sys.executable, "-m", "client.command", *command], stdout=subprocess.PIPE, text=True, check=True
    )
    partial = path.with_suffix(".partial")
    partial.write_text(done.stdout.splitlines()[0] + "\n")
    partial.chmod(0o400)
    partial.rename(path)
    print(f"made {path}")


if __name__ == "__main__":
    keep(OPERATOR, "store", "first-token")
    shown = ("--token-file", str(OPERATOR), "--plaintext-token")
    keep(INFERENCE, "token", "create", "--tenant", "*", "--role", "publisher", *shown)
