"""The adapter store's settings: where it listens, where rows and bytes lie, how much it takes."""

import math
from dataclasses import dataclass

from services.adapter_store.blob_settings import BlobSettings
from services.adapter_store.database_settings import DatabaseSettings
from services.adapter_store.import_settings import ImportSettings
from services.common.server_settings import ServerSettings
from services.common.settings import setting


@dataclass(frozen=True, slots=True)
class PlaceSettings(DatabaseSettings, BlobSettings):
    """Where a store's rows and bytes lie; `check` needs no more."""

    def __post_init__(self) -> None:
        # `super()` does not work in a dataclass with slots: the decorator makes another class.
        DatabaseSettings.__post_init__(self)
        self.check_blobs()


@dataclass(frozen=True, slots=True)
class Settings(PlaceSettings, ImportSettings, ServerSettings):
    """What `multilora store` takes."""

    listen: str = setting("127.0.0.1:7001", help="HOST:PORT to listen on; port 0 takes any free one")
    max_upload_bytes: int = setting(8 << 30, help="most bytes that one upload's files may have together")
    drain_grace_s: float = setting(
        30.0,
        help="how long running calls may go on after SIGTERM; longer uploads can be resumed elsewhere",
    )
    gc_interval_s: int = setting(0, help="collect garbage each time so many seconds have passed; 0: never")

    def __post_init__(self) -> None:
        PlaceSettings.__post_init__(self)
        self.check_exposure(self.listen)
        self.check_imports()
        if self.max_upload_bytes < 1:
            raise ValueError("--max-upload-bytes: must be above 0")
        # So written that NaN is refused too.
        if not 0 <= self.drain_grace_s < math.inf:
            raise ValueError("--drain-grace-s: must be a number from 0")
        if self.gc_interval_s < 0:
            raise ValueError("--gc-interval-s: must not be negative")
