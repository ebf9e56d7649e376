"""Settings of where a store's rows lie: what `migrate` takes, and the store too."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, quote, urlsplit

from services.common.settings import setting


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """Where rows lie, and how much to log."""

    data_dir: Path = setting(Path(".multilora/store"), help="directory of the store's files")
    database_url: str = setting(
        "",
        help="postgresql://USER@HOST:PORT/DATABASE, sqlite:///PATH; empty: a file in the data directory",
    )
    database_password_file: str = setting("", help="file whose only line is the database's password")
    log_level: str = setting("info", help="how much to log", choices=("debug", "info", "warning", "error"))

    def __post_init__(self) -> None:
        _check_url(self.database_url)
        if self.database_password_file:
            _with_password(self.database_url, self.database_password_file)

    @property
    def is_embedded(self) -> bool:
        """Whether the database is the store's own file, which it makes and migrates by itself."""
        return not self.database_url

    @property
    def database(self) -> str:
        """The URL to open, which may hold a password: not for people's eyes."""
        if self.is_embedded:
            return f"sqlite:///{self.data_dir.absolute() / 'store.sqlite3'}"
        if self.database_password_file:
            return _with_password(self.database_url, self.database_password_file)
        return self.database_url


def _check_url(url: str) -> None:
    # No message shows the URL: there may be a password in it.
    if not url or (url.startswith("sqlite:///") and len(url) > len("sqlite:///")):
        return
    parts = _split(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise ValueError("--database-url: give postgresql://USER@HOST:PORT/DATABASE, or sqlite:///PATH")
    if not parts.hostname or len(parts.path) < 2:
        raise ValueError("--database-url: names no host or no database: postgresql://USER@HOST:PORT/DATABASE")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValueError("--database-url: its host or port is none") from error
    return parts


def _with_password(url: str, file: str) -> str:
    parts = _split(url)
    if parts.username is None or parts.password is not None:
        raise ValueError(
            "--database-password-file: --database-url must name a user and hold no password: "
            "postgresql://USER@HOST:PORT/DATABASE"
        )
    try:
        password = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--database-password-file: {file} cannot be read: {error}") from error
    if not password:
        raise ValueError(f"--database-password-file: {file} is empty")
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()
