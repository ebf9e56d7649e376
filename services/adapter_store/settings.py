"""The adapter store's settings: where it listens, where rows and bytes lie, how much it takes."""

from dataclasses import dataclass
from pathlib import Path

from services.adapter_store.blob_settings import BlobSettings
from services.adapter_store.import_settings import ImportSettings
from services.common.server_settings import ServerSettings
from services.common.settings import setting


@dataclass(frozen=True, slots=True)
class PlaceSettings(BlobSettings):
    """Where a store's rows and bytes lie; `check` needs no more."""

    data_dir: Path = setting(Path(".multilora/store"), help="directory of the store's files")
    database_url: str = setting(
        "", help="SQLAlchemy URL, sqlite:///PATH; empty: store.sqlite3 in the data directory"
    )
    log_level: str = setting("info", help="how much to log", choices=("debug", "info", "warning", "error"))

    def __post_init__(self) -> None:
        if self.database_url and not self.database_url.startswith("sqlite:///"):
            raise ValueError(f"--database-url: {self.database_url!r} is not served: give sqlite:///PATH")
        self.check_blobs()

    @property
    def database(self) -> str:
        """The SQLAlchemy URL to open."""
        return self.database_url or f"sqlite:///{self.data_dir.absolute() / 'store.sqlite3'}"


@dataclass(frozen=True, slots=True)
class Settings(PlaceSettings, ImportSettings, ServerSettings):
    """What `multilora store` takes."""

    listen: str = setting("127.0.0.1:7001", help="HOST:PORT to listen on; port 0 takes any free one")
    max_upload_bytes: int = setting(8 << 30, help="most bytes that one upload's files may have together")
    gc_interval_s: int = setting(0, help="collect garbage each time so many seconds have passed; 0: never")

    def __post_init__(self) -> None:
        # `super()` does not work in a dataclass with slots: the decorator makes another class.
        PlaceSettings.__post_init__(self)
        self.check_exposure(self.listen)
        self.check_imports()
        if self.max_upload_bytes < 1:
            raise ValueError("--max-upload-bytes: must be above 0")
        if self.gc_interval_s < 0:
            raise ValueError("--gc-interval-s: must not be negative")
