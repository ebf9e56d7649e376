"""Moves aliases by compare-and-swap, and keeps every move."""

from collections.abc import Callable, Sequence
from datetime import datetime

from services.adapter_store.catalog.lookup import find_adapter, find_version
from services.adapter_store.domain.actor import STORE, Actor
from services.adapter_store.domain.adapter import MAX_ALIASES, Alias, AliasMove
from services.adapter_store.domain.change import ChangeKind
from services.adapter_store.domain.fields import quoted
from services.adapter_store.domain.listing import Key, Listing, list_page
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.version import VersionState, not_active
from services.adapter_store.metadata import Database, UnitOfWork
from services.common.errors import Code, Reason, ServiceError, invalid_field, not_found


class Aliases:
    """Aliases, by adapter and name. `now` is the clock."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    def set(
        self, name: AdapterName, alias: str, version: int, expected_version: int | None, actor: Actor = STORE
    ) -> Alias:
        """Points the alias at an ACTIVE version; makes it if it is new.

        `expected_version` is what it must point at now (0: it must not exist; None: whatever it is), else
        ALIAS_MOVED. Raises VERSION_NOT_FOUND, VERSION_NOT_ACTIVE, ADAPTER_NOT_FOUND, QUOTA_EXCEEDED.
        """
        _check_versions(version, expected_version)
        with self._database.write(actor) as uow:
            adapter = find_adapter(uow, name)
            target = find_version(uow, adapter, version)
            if target.state is not VersionState.ACTIVE:
                raise not_active(target)
            current = uow.aliases.get(adapter.id, alias)
            current_version = 0 if current is None else current.version
            if expected_version is not None and expected_version != current_version:
                raise _moved(name, alias, current_version)
            now = self._now()
            if current is None:
                if len(adapter.aliases) >= MAX_ALIASES:
                    raise _too_many(name)
                uow.aliases.insert(adapter.id, alias, version, now)
            elif current_version == version:
                return current
            elif not uow.aliases.move(adapter.id, alias, current_version, version, now):
                raise _moved(name, alias, current_version)
            uow.aliases.record(adapter.id, alias, current_version, version, now, actor.name)
            _note(uow, name, alias, f"{current_version} to {version}")
            uow.commit()
        return Alias(alias, version, now)

    def delete(
        self, name: AdapterName, alias: str, expected_version: int | None, actor: Actor = STORE
    ) -> None:
        """Deletes the alias if it points at `expected_version` (None: at anything).

        Raises ALIAS_NOT_FOUND, ALIAS_MOVED, ADAPTER_NOT_FOUND.
        """
        _check_versions(1, expected_version)
        with self._database.write(actor) as uow:
            adapter = find_adapter(uow, name)
            current = uow.aliases.get(adapter.id, alias)
            if current is None:
                raise not_found(
                    Reason.ALIAS_NOT_FOUND, f"no alias {quoted(alias)} of {name}: nothing to delete"
                )
            if expected_version is not None and expected_version != current.version:
                raise _moved(name, alias, current.version)
            if not uow.aliases.delete(adapter.id, alias, current.version):
                raise _moved(name, alias, current.version)
            uow.aliases.record(adapter.id, alias, current.version, 0, self._now(), actor.name)
            _note(uow, name, alias, f"{current.version} to none")
            uow.commit()

    def history(self, name: AdapterName, alias: str, page_size: int, page_token: str) -> Listing[AliasMove]:
        """Every move of the alias, newest first; a deleted alias keeps its history."""

        def fetch(after: Key | None, limit: int) -> Sequence[AliasMove]:
            with self._database.read() as uow:
                adapter = find_adapter(uow, name)
                moves = uow.aliases.history(
                    adapter.id, alias, None if after is None else int(after[0]), limit
                )
            if not moves and after is None:
                raise not_found(Reason.ALIAS_NOT_FOUND, f"{name} never had an alias {quoted(alias)}")
            return moves

        return list_page(
            f"moves/{name.alias(alias)}", page_size, page_token, (0,), fetch, lambda move: (move.id,)
        )


def _note(uow: UnitOfWork, name: AdapterName, alias: str, detail: str) -> None:
    uow.audit.add(name.tenant, name.alias(alias), detail)
    uow.changes.add(ChangeKind.ALIAS_CHANGED, name.tenant, name.alias(alias))


def _check_versions(version: int, expected_version: int | None) -> None:
    if version < 1:
        raise invalid_field("version", f"is {version}: versions count from 1")
    if expected_version is not None and expected_version < 0:
        raise invalid_field(
            "expected_version", f"is {expected_version}: give the version, or 0 for a new alias"
        )


def _too_many(name: AdapterName) -> ServiceError:
    return ServiceError(
        Code.RESOURCE_EXHAUSTED,
        Reason.QUOTA_EXCEEDED,
        f"{name} has {MAX_ALIASES} aliases, which is the most: delete one with DeleteAlias",
        retry_after_s=60.0,
    )


def _moved(name: AdapterName, alias: str, current_version: int) -> ServiceError:
    where = f"points at version {current_version}" if current_version else "does not exist"
    return ServiceError(
        Code.ABORTED,
        Reason.ALIAS_MOVED,
        f"{name.alias(alias)} {where}, which is not what was expected: look at it, then decide again",
        field="expected_version",
        metadata={"current_version": str(current_version)},
    )
