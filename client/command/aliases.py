"""`multilora alias`, `promote` and `rollback`: which version answers, and back."""

from typing import Annotated

import typer

from client.command.connection import open_store
from client.command.options import MAX_INT64, STORE, Json, NoServer, Store, wait
from client.command.output import print_json, print_table, time_text
from client.names import short_name
from client.registry import Alias, AliasMove, Shadow, TrafficTarget

_Expect = Annotated[
    int | None,
    typer.Option(min=0, max=MAX_INT64, help="Only if it points at this version now; 0: only if it is new."),
]


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    app.command()(alias)
    app.command()(promote)
    app.command()(rollback)


def alias(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An alias: acme/reverse@staging.")],
    version: Annotated[
        int | None, typer.Argument(min=1, max=MAX_INT64, help="Point it here; without: its history.")
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            metavar="V=W,V=W",
            help="Share its traffic among versions, by weight; each request_id or split_key stays with one.",
        ),
    ] = "",
    shadow: Annotated[
        str,
        typer.Option(
            metavar="V=RATE",
            help="Also run this share of the requests on version V, to compare; ends with the next move.",
        ),
    ] = "",
    expect: _Expect = None,
    expect_revision: Annotated[
        int | None, typer.Option(min=0, max=MAX_INT64, help="Only if its revision is this now.")
    ] = None,
    store: Store = STORE,
    server: NoServer = "",
    json: Json = False,
) -> None:
    """Point an alias at a version, split it over several, or show where it has pointed.

    multilora alias acme/reverse@production 3 --expect 2

    multilora alias acme/reverse@production --split 3=90,4=10

    multilora alias acme/reverse@production 3 --shadow 5=0.1

    multilora alias acme/reverse@production
    """
    if "@" not in name and "/aliases/" not in name:
        raise typer.BadParameter(f"{name!r} names no alias: give {name}@production", param_hint="NAME")
    if version is not None and split:
        raise typer.BadParameter("give a version or --split, not both", param_hint="--split")
    targets, copied = _targets(split), _shadow(shadow)
    if version is None and not targets:
        if copied or expect is not None or expect_revision is not None:
            raise typer.BadParameter("say where to point it: a version, or --split", param_hint="VERSION")
        _show_history(name, store, json)
        return

    async def move() -> Alias:
        async with open_store(store) as client:
            return await client.set_alias(
                name,
                version or 0,
                targets=targets,
                shadow=copied,
                expected_version=expect,
                expected_revision=expect_revision,
            )

    _print_alias(wait(move()), json)


def promote(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An adapter: acme/reverse.")],
    from_alias: Annotated[str, typer.Option("--from", help="Alias to take from.")] = "staging",
    to_alias: Annotated[str, typer.Option("--to", help="Alias to point there.")] = "production",
    expect: Annotated[
        int | None, typer.Option(min=0, max=MAX_INT64, help="Only if --from points at this version now.")
    ] = None,
    store: Store = STORE,
    server: NoServer = "",
    json: Json = False,
) -> None:
    """Point production at what staging points at.

    multilora promote acme/reverse --expect 4

    multilora promote acme/reverse --from canary --to production
    """

    async def work() -> Alias:
        async with open_store(store) as client:
            return await client.promote(
                name, from_alias=from_alias, to_alias=to_alias, expected_version=expect
            )

    _print_alias(wait(work()), json)


def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An alias, or an adapter for its production.")],
    expect: _Expect = None,
    store: Store = STORE,
    server: NoServer = "",
    json: Json = False,
) -> None:
    """Point an alias back at what it pointed at before its last move; once more, forth again.

    multilora rollback acme/reverse

    multilora rollback acme/reverse@staging --expect 4
    """

    async def work() -> Alias:
        async with open_store(store) as client:
            return await client.rollback(name, expected_version=expect)

    _print_alias(wait(work()), json)


def _show_history(name: str, store: str, json: bool) -> None:
    async def work() -> list[AliasMove]:
        async with open_store(store) as client:
            return await client.list_alias_history(name)

    moves = wait(work())
    if json:
        print_json(moves)
        return
    print_table(
        ("TIME", "REVISION", "FROM", "TO", "SHADOW", "BY"),
        (
            (
                time_text(each.time),
                each.revision,
                _came_from(each, before),
                _aim(each.to_version, each.to_targets) or "deleted",
                _copied(each.to_shadow),
                each.moved_by,
            )
            for each, before in zip(moves, (*moves[1:], None), strict=True)
        ),
    )


def _came_from(move: AliasMove, before: AliasMove | None) -> str:
    # A move has its origin's first version alone; the whole split is in the move that made it.
    if before is not None and before.to_version == move.from_version:
        return _aim(before.to_version, before.to_targets) or "new"
    return str(move.from_version or "new")


def _print_alias(moved: Alias, json: bool) -> None:
    if json:
        print_json(moved)
        return
    what = "splits traffic over" if moved.targets else "points at version"
    shadow = f", shadow {_copied(moved.shadow)}" if moved.shadow else ""
    aim = _aim(moved.version, moved.targets)
    print(f"{short_name(moved.name)} {what} {aim}{shadow} (revision {moved.revision})")


def _aim(version: int, targets: tuple[TrafficTarget, ...]) -> str:
    return ",".join(f"{each.version}={each.weight}" for each in targets) or (str(version) if version else "")


def _copied(shadow: Shadow | None) -> str:
    return f"{shadow.version}={shadow.sample_rate:g}" if shadow else ""


def _targets(text: str) -> list[TrafficTarget]:
    try:
        pairs = [pair.split("=") for pair in text.split(",")] if text else []
        return [TrafficTarget(_count(version), _count(weight)) for version, weight in pairs]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: give VERSION=WEIGHT pairs, such as 3=90,4=10", param_hint="--split"
        ) from None


def _shadow(text: str) -> Shadow | None:
    if not text:
        return None
    try:
        version, rate = text.split("=")
        return Shadow(_count(version), float(rate))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: give VERSION=RATE with a rate up to 1, such as 5=0.1", param_hint="--shadow"
        ) from None


def _count(text: str) -> int:
    """A whole number that its field can hold; what is out of range there is for the store to refuse."""
    value = int(text)
    if not 0 <= value < 1 << 31:
        raise ValueError(text)
    return value
