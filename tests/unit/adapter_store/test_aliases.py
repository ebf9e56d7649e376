import threading

import pytest

from services.adapter_store.domain.actor import Actor
from services.adapter_store.domain.alias import Aim, Shadow, TrafficTarget
from services.adapter_store.domain.change import ChangeKind
from services.adapter_store.domain.names import AdapterName, parse_reference
from services.common.errors import Code, Reason, ServiceError
from services.common.traffic_split import choose_target
from tests.unit.adapter_store.conftest import NAME, publish

ME = Actor("me", "test")
SPLIT = (TrafficTarget(1, 90), TrafficTarget(2, 10))


def refusal(call, *arguments, **named):
    with pytest.raises(ServiceError) as caught:
        call(*arguments, **named)
    return caught.value


@pytest.fixture
def aliases(store):
    """Of an adapter with five ACTIVE versions."""
    for _ in range(5):
        publish(store)
    return store.aliases


def changes(store):
    with store._database.read() as uow:
        return [(change.kind, change.resource) for change in uow.changes.between(0, 10_000, None, 10_000)]


def point(aliases, alias, version, **named):
    return aliases.set(NAME, alias, version, None, ME, **named)


class TestSplits:
    def test_a_split_is_kept_and_resolves_by_key(self, store, aliases):
        made = aliases.set(NAME, "production", 0, 0, ME, targets=SPLIT, shadow=Shadow(3, 0.25))
        assert (made.version, made.aim.targets, made.aim.shadow) == (1, SPLIT, Shadow(3, 0.25))
        assert store.adapters.get(NAME).aliases == (made,)
        seen = set()
        for key in (f"user {i}" for i in range(60)):
            resolution = store.versions.resolve(parse_reference("acme/support", "f"), key)
            assert resolution.version.version == choose_target(str(NAME), key, [(1, 90), (2, 10)])
            assert (resolution.targets, resolution.shadow) == (SPLIT, Shadow(3, 0.25))
            seen.add(resolution.version.version)
        assert seen == {1, 2}

    def test_names_that_are_no_alias_have_no_targets(self, store, aliases):
        aliases.set(NAME, "production", 0, None, ME, targets=SPLIT, shadow=Shadow(3, 0.25))
        for text in ("acme/support@2", "acme/support@latest"):
            resolution = store.versions.resolve(parse_reference(text, "f"), "key")
            assert (resolution.targets, resolution.shadow) == ((), None)

    def test_a_key_that_falls_to_a_disabled_version_is_refused_not_moved(self, store, aliases):
        aliases.set(NAME, "production", 0, None, ME, targets=SPLIT)
        store.versions.disable(NAME, 2)
        bare = parse_reference("acme/support", "f")
        keys = {1: [], 2: []}
        for key in (f"user {i}" for i in range(60)):
            keys[choose_target(str(NAME), key, [(1, 90), (2, 10)])].append(key)
        assert store.versions.resolve(bare, keys[1][0]).version.version == 1
        error = refusal(store.versions.resolve, bare, keys[2][0])
        assert error.reason is Reason.VERSION_NOT_ACTIVE
        assert "versions/2 is DISABLED" in error.message

    @pytest.mark.parametrize(
        ("arguments", "field"),
        [
            ({"version": 1, "targets": SPLIT}, "version"),
            ({"version": 0}, "version"),
            ({"targets": SPLIT[:1]}, "targets"),
            ({"targets": tuple(TrafficTarget(i, 1) for i in range(1, 18))}, "targets"),
            ({"targets": (TrafficTarget(1, 1), TrafficTarget(1, 2))}, "targets"),
            ({"targets": (TrafficTarget(1, 0), TrafficTarget(2, 1))}, "targets[0].weight"),
            ({"targets": (TrafficTarget(1, 1), TrafficTarget(2, 1_000_001))}, "targets[1].weight"),
            ({"targets": (TrafficTarget(0, 1), TrafficTarget(2, 1))}, "targets[0].version"),
            ({"version": 1, "shadow": Shadow(0, 0.5)}, "shadow.version"),
            ({"version": 1, "shadow": Shadow(1, 0.5)}, "shadow.version"),
            ({"targets": SPLIT, "shadow": Shadow(2, 0.5)}, "shadow.version"),
            ({"version": 1, "shadow": Shadow(2, 0.0)}, "shadow.sample_rate"),
            ({"version": 1, "shadow": Shadow(2, 1.01)}, "shadow.sample_rate"),
            ({"version": 1, "shadow": Shadow(2, float("nan"))}, "shadow.sample_rate"),
            ({"version": 1, "expected_revision": -1}, "expected_revision"),
        ],
    )
    def test_bad_fields(self, aliases, arguments, field):
        arguments = {"version": 0, **arguments}
        error = refusal(aliases.set, NAME, "x", arguments.pop("version"), None, ME, **arguments)
        assert (error.code, error.reason, error.field) == (
            Code.INVALID_ARGUMENT, Reason.INVALID_FIELD, field
        )  # fmt: skip

    def test_every_version_must_be_active(self, store, aliases):
        store.versions.disable(NAME, 2)
        assert refusal(point, aliases, "x", 0, targets=SPLIT).reason is Reason.VERSION_NOT_ACTIVE
        assert refusal(point, aliases, "x", 1, shadow=Shadow(2, 1)).reason is Reason.VERSION_NOT_ACTIVE
        assert refusal(point, aliases, "x", 1, shadow=Shadow(9, 1)).reason is Reason.VERSION_NOT_FOUND
        assert store.adapters.get(NAME).aliases == ()


class TestMoves:
    def test_each_move_is_one_revision_and_one_change(self, store, aliases):
        assert point(aliases, "x", 1).revision == 1
        assert point(aliases, "x", 1).revision == 1, "the same again is no move"
        assert point(aliases, "x", 0, targets=SPLIT).revision == 2
        assert point(aliases, "x", 0, targets=SPLIT, shadow=Shadow(3, 0.5)).revision == 3
        assert point(aliases, "x", 1).revision == 4
        moved = [change for change in changes(store) if change[0] is ChangeKind.ALIAS_CHANGED]
        assert moved == [(ChangeKind.ALIAS_CHANGED, NAME.alias("x"))] * 4

    def test_expected_revision(self, aliases):
        assert refusal(point, aliases, "x", 1, expected_revision=1).field == "expected_revision"
        point(aliases, "x", 1, expected_revision=0)
        error = refusal(point, aliases, "x", 2, expected_revision=0)
        assert (error.code, error.reason) == (Code.ABORTED, Reason.ALIAS_MOVED)
        assert error.metadata == {"current_version": "1", "current_revision": "1"}
        assert point(aliases, "x", 0, targets=SPLIT, expected_revision=1).revision == 2

    def test_a_revision_never_means_two_things_even_over_a_deletion(self, aliases):
        point(aliases, "x", 1)
        aliases.delete(NAME, "x", None, ME)
        assert point(aliases, "x", 2).revision == 3
        assert refusal(point, aliases, "x", 4, expected_revision=1).reason is Reason.ALIAS_MOVED

    def test_history_says_who_and_what(self, aliases):
        point(aliases, "x", 1)
        point(aliases, "x", 0, targets=SPLIT, shadow=Shadow(3, 0.5))
        aliases.delete(NAME, "x", None, Actor("you", "test"))
        moves = aliases.history(NAME, "x", 0, "").rows
        assert [(m.from_version, m.to, m.revision, m.moved_by) for m in moves] == [
            (1, None, 3, "you"),
            (1, Aim(1, SPLIT, Shadow(3, 0.5)), 2, "me"),
            (0, Aim(1), 1, "me"),
        ]

    def test_of_many_writers_one_wins_each_round(self, aliases):
        point(aliases, "x", 1)
        for revision in range(1, 6):
            outcomes = []

            def move(version, revision=revision, outcomes=outcomes):
                try:
                    point(aliases, "x", 0, targets=(TrafficTarget(version, revision), SPLIT[1]),
                          expected_revision=revision)  # fmt: skip
                    outcomes.append(None)
                except ServiceError as error:
                    outcomes.append(error.reason)

            threads = [threading.Thread(target=move, args=(version,)) for version in (1, 3, 4, 5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(outcomes, key=str) == [Reason.ALIAS_MOVED] * 3 + [None]
        assert len(aliases.history(NAME, "x", 0, "").rows) == 6


class TestPromote:
    def test_targets_are_copied_and_a_shadow_ends(self, aliases):
        point(aliases, "staging", 0, targets=SPLIT, shadow=Shadow(4, 0.5))
        point(aliases, "production", 3, shadow=Shadow(5, 0.5))
        moved = aliases.promote(NAME, "staging", "production", None, ME)
        assert (moved.name, moved.aim, moved.revision) == ("production", Aim(1, SPLIT), 2)

    def test_a_new_alias_is_made(self, aliases):
        point(aliases, "staging", 2)
        assert aliases.promote(NAME, "staging", "production", 2, ME).aim == Aim(2)

    def test_what_is_expected_is_the_source(self, aliases):
        point(aliases, "staging", 2), point(aliases, "production", 1)
        error = refusal(aliases.promote, NAME, "staging", "production", 1, ME)
        assert (error.reason, error.field) == (Reason.ALIAS_MOVED, "expected_version")
        assert "aliases/staging points at version 2" in error.message

    def test_refusals(self, store, aliases):
        assert refusal(aliases.promote, NAME, "staging", "b", None, ME).reason is Reason.ALIAS_NOT_FOUND
        assert refusal(aliases.promote, NAME, "a", "a", None, ME).field == "to_alias"
        nobody = AdapterName("acme", "nobody")
        assert refusal(aliases.promote, nobody, "a", "b", None, ME).reason is Reason.ADAPTER_NOT_FOUND
        point(aliases, "staging", 2)
        store.versions.disable(NAME, 2)
        error = refusal(aliases.promote, NAME, "staging", "production", None, ME)
        assert error.reason is Reason.VERSION_NOT_ACTIVE


class TestRollback:
    def test_goes_back_and_forth_with_targets_and_shadow(self, aliases):
        point(aliases, "x", 0, targets=SPLIT, shadow=Shadow(3, 0.5))
        point(aliases, "x", 4)
        back = aliases.rollback(NAME, "x", 4, ME)
        assert (back.aim, back.revision) == (Aim(1, SPLIT, Shadow(3, 0.5)), 3)
        assert aliases.rollback(NAME, "x", None, ME).aim == Aim(4)
        assert aliases.history(NAME, "x", 0, "").rows[0].from_version == 1

    def test_nothing_to_roll_back(self, aliases):
        assert refusal(aliases.rollback, NAME, "x", None, ME).reason is Reason.ALIAS_NOT_FOUND
        point(aliases, "x", 1)
        error = refusal(aliases.rollback, NAME, "x", None, ME)
        assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, Reason.NOTHING_TO_ROLL_BACK)
        point(aliases, "x", 2)
        aliases.delete(NAME, "x", None, ME)
        point(aliases, "x", 3)
        assert refusal(aliases.rollback, NAME, "x", None, ME).reason is Reason.NOTHING_TO_ROLL_BACK

    def test_a_target_that_is_gone_is_named(self, store, aliases):
        point(aliases, "x", 0, targets=SPLIT)
        point(aliases, "x", 3)
        assert refusal(aliases.rollback, NAME, "x", 1, ME).reason is Reason.ALIAS_MOVED
        store.deletions.delete_version(NAME, 2, ME)
        error = refusal(aliases.rollback, NAME, "x", None, ME)
        assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, Reason.VERSION_NOT_ACTIVE)
        assert NAME.version(2) + " is DELETED" in error.message
        assert store.adapters.get(NAME).aliases[0].version == 3
