"""Moves aliases by compare-and-swap, and keeps every move."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.adapter_store.catalog.lookup import find_active, find_adapter, lock_adapter, no_alias
from services.adapter_store.domain.actor import STORE, Actor
from services.adapter_store.domain.adapter import MAX_ALIASES, Adapter
from services.adapter_store.domain.alias import Aim, Alias, AliasMove, Shadow, TrafficTarget, check_aim
from services.adapter_store.domain.change import ChangeKind
from services.adapter_store.domain.fields import quoted
from services.adapter_store.domain.listing import Key, Listing, list_page
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.metadata import Database, UnitOfWork
from services.common.errors import Code, Reason, ServiceError, invalid_field, not_found


@dataclass(frozen=True, slots=True)
class _Expected:
    """What an alias must be before its move. None: whatever it is; version 0: not there."""

    version: int | None = None
    revision: int | None = None

    def check(self, name: AdapterName, alias: str, current: Alias | None) -> None:
        version = 0 if current is None else current.version
        revision = 0 if current is None else current.revision
        if self.version not in (None, version):
            raise _moved(name, alias, current, "expected_version")
        if self.revision not in (None, revision):
            raise _moved(name, alias, current, "expected_revision")


class Aliases:
    """Aliases, by adapter and name. `now` is the clock."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    def set(
        self,
        name: AdapterName,
        alias: str,
        version: int,
        expected_version: int | None,
        actor: Actor = STORE,
        *,
        targets: Sequence[TrafficTarget] = (),
        shadow: Shadow | None = None,
        expected_revision: int | None = None,
    ) -> Alias:
        """Points the alias at an ACTIVE version, or splits it over several; makes it if it is new.

        Of what it must be now, None is whatever it is, version 0 that it must not exist; else ALIAS_MOVED.
        Raises INVALID_FIELD, VERSION_NOT_FOUND, VERSION_NOT_ACTIVE, ADAPTER_NOT_FOUND, QUOTA_EXCEEDED.
        """
        aim = check_aim(version, targets, shadow)
        _check_expected("expected_version", expected_version)
        _check_expected("expected_revision", expected_revision)
        with self._database.write(actor) as uow:
            adapter = lock_adapter(uow, name)
            current = uow.aliases.get(adapter.id, alias)
            _Expected(expected_version, expected_revision).check(name, alias, current)
            moved = self._move(uow, adapter, alias, current, aim, actor)
            uow.commit()
        return moved

    def promote(
        self,
        name: AdapterName,
        from_alias: str,
        to_alias: str,
        expected_version: int | None,
        actor: Actor = STORE,
    ) -> Alias:
        """Points `to_alias` at what `from_alias` points at, targets included; a shadow it had ends.

        `expected_version` is what `from_alias` must point at now (None: whatever it is), else ALIAS_MOVED.
        Raises INVALID_FIELD, ALIAS_NOT_FOUND, VERSION_NOT_ACTIVE, ADAPTER_NOT_FOUND, QUOTA_EXCEEDED.
        """
        _check_expected("expected_version", expected_version)
        if from_alias == to_alias:
            raise invalid_field("to_alias", f"{quoted(to_alias)} is from_alias as well: name another one")
        with self._database.write(actor) as uow:
            adapter = lock_adapter(uow, name)
            source = _existing(uow, adapter, from_alias)
            _Expected(expected_version).check(name, from_alias, source)
            current = uow.aliases.get(adapter.id, to_alias)
            aim = Aim(source.version, source.aim.targets)
            moved = self._move(uow, adapter, to_alias, current, aim, actor)
            uow.commit()
        return moved

    def rollback(
        self, name: AdapterName, alias: str, expected_version: int | None, actor: Actor = STORE
    ) -> Alias:
        """Points the alias back at what it pointed at before its last move, targets and shadow included.

        Raises ALIAS_MOVED if it does not point at `expected_version`, NOTHING_TO_ROLL_BACK, ALIAS_NOT_FOUND,
        ADAPTER_NOT_FOUND, and VERSION_NOT_ACTIVE naming a version that requests can no longer run on.
        """
        _check_expected("expected_version", expected_version)
        with self._database.write(actor) as uow:
            adapter = lock_adapter(uow, name)
            current = _existing(uow, adapter, alias)
            _Expected(expected_version).check(name, alias, current)
            last_two = uow.aliases.history(adapter.id, alias, None, 2)
            before = last_two[1].to if len(last_two) == 2 else None
            if before is None:
                raise _nothing_to_roll_back(name, current)
            moved = self._move(uow, adapter, alias, current, before, actor)
            uow.commit()
        return moved

    def delete(
        self, name: AdapterName, alias: str, expected_version: int | None, actor: Actor = STORE
    ) -> None:
        """Deletes the alias if it points at `expected_version` (None: at anything).

        Raises ALIAS_NOT_FOUND, ALIAS_MOVED, ADAPTER_NOT_FOUND.
        """
        _check_expected("expected_version", expected_version)
        with self._database.write(actor) as uow:
            adapter = lock_adapter(uow, name)
            current = _existing(uow, adapter, alias)
            _Expected(expected_version).check(name, alias, current)
            drop_alias(uow, adapter, current, self._now(), actor)
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

    def _move(
        self, uow: UnitOfWork, adapter: Adapter, alias: str, current: Alias | None, aim: Aim, actor: Actor
    ) -> Alias:
        for number in aim.versions:
            find_active(uow, adapter, number)
        now = self._now()
        if current is None:
            if len(adapter.aliases) >= MAX_ALIASES:
                raise _too_many(adapter.name)
            moved = uow.aliases.insert(adapter.id, alias, aim, now)
        elif current.aim == aim:
            return current
        else:
            swapped = uow.aliases.move(adapter.id, current, aim, now)
            if swapped is None:
                raise _moved(adapter.name, alias, uow.aliases.get(adapter.id, alias), "expected_version")
            moved = swapped
        from_version = 0 if current is None else current.version
        uow.aliases.record(adapter.id, alias, from_version, aim, moved.revision, now, actor.name)
        _note(uow, adapter.name, alias, f"{'none' if current is None else current.aim} to {aim}")
        return moved


def drop_alias(uow: UnitOfWork, adapter: Adapter, current: Alias, now: datetime, actor: Actor) -> None:
    """Deletes an alias of a locked adapter. Its history stays."""
    if not uow.aliases.delete(adapter.id, current):
        raise _moved(
            adapter.name, current.name, uow.aliases.get(adapter.id, current.name), "expected_version"
        )
    uow.aliases.record(adapter.id, current.name, current.version, None, current.revision + 1, now, actor.name)
    _note(uow, adapter.name, current.name, f"{current.aim} to none")


def _note(uow: UnitOfWork, name: AdapterName, alias: str, detail: str) -> None:
    uow.audit.add(name.tenant, name.alias(alias), detail)
    uow.changes.add(ChangeKind.ALIAS_CHANGED, name.tenant, name.alias(alias))


def _existing(uow: UnitOfWork, adapter: Adapter, alias: str) -> Alias:
    current = uow.aliases.get(adapter.id, alias)
    if current is None:
        raise no_alias(adapter.name, alias)
    return current


def _check_expected(field: str, expected: int | None) -> None:
    if expected is not None and expected < 0:
        raise invalid_field(field, f"is {expected}: give what it is now, or 0 for a new alias")


def _too_many(name: AdapterName) -> ServiceError:
    return ServiceError(
        Code.RESOURCE_EXHAUSTED,
        Reason.QUOTA_EXCEEDED,
        f"{name} has {MAX_ALIASES} aliases, which is the most: delete one with DeleteAlias",
        retry_after_s=60.0,
    )


def _nothing_to_roll_back(name: AdapterName, current: Alias) -> ServiceError:
    return ServiceError(
        Code.FAILED_PRECONDITION,
        Reason.NOTHING_TO_ROLL_BACK,
        f"{name.alias(current.name)} did not exist before it pointed at version {current.version}: "
        "point it somewhere with SetAlias, or delete it",
    )


def _moved(name: AdapterName, alias: str, current: Alias | None, field: str) -> ServiceError:
    where = "does not exist"
    if current is not None:
        where = f"points at version {current.aim} (revision {current.revision})"
    return ServiceError(
        Code.ABORTED,
        Reason.ALIAS_MOVED,
        f"{name.alias(alias)} {where}, which is not what was expected: look at it, then decide again",
        field=field,
        metadata={
            "current_version": str(0 if current is None else current.version),
            "current_revision": str(0 if current is None else current.revision),
        },
    )
