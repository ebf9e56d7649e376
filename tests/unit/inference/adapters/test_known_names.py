import pytest

from services.common.traffic_split import choose_target
from services.inference.adapter_name import parse_reference
from services.inference.adapters.known_names import KnownNames
from services.inference.resolution import Resolution, ShadowTarget
from tests.fakes import adapter

SUPPORT = "tenants/acme/adapters/support"
SPLIT = ((1, 50), (2, 50))


class Rig:
    """Names that are heard of from the start, and shorthands."""

    def __init__(self, *, is_current=True, max_names=100):
        self.now_s = 0.0
        self.names = KnownNames(max_names, lambda: self.now_s)
        if is_current:
            self.hear()

    def hear(self, *, is_resumed=False):
        self.names.listen()
        if not is_resumed:
            self.names.forget_all()
        self.names.catch_up()

    def tell(self, name, version, targets=(), shadow=None):
        reference = parse_reference(name)
        resolution = Resolution(adapter(f"{reference.adapter}/versions/{version}"), targets, shadow)
        self.names.answer(self.names.ask(reference), version, resolution)
        return resolution

    def known(self, name, key=""):
        found = self.names.find(parse_reference(name), key)
        self.names.check_integrity()
        return found

    def stale(self, name, key=""):
        found = self.names.fall_back(self.names.ask(parse_reference(name)), key)
        self.names.check_idle()
        return found


def test_every_form_of_a_name_is_one_name():
    rig = Rig()
    told = rig.tell("acme/support@3", 3)
    assert rig.known("tenants/acme/adapters/support/versions/3") == told
    assert rig.known("acme/support@4") is None
    assert rig.known("acme/support@staging") is None
    told = rig.tell("tenants/acme/adapters/support/aliases/staging", 4)
    assert rig.known("acme/support@staging") == told


def test_nothing_is_certain_before_everything_that_was_missed_has_come():
    rig = Rig(is_current=False)
    told = rig.tell("acme/support", 1)
    assert rig.known("acme/support") is None
    assert rig.stale("acme/support") == told
    rig.names.listen()
    assert rig.known("acme/support") is None
    rig.names.catch_up()
    assert rig.known("acme/support") == told
    rig.names.lose()
    assert rig.known("acme/support") is None
    assert rig.stale("acme/support") == told


def test_one_who_starts_from_now_forgets_what_may_have_changed_before():
    rig = Rig(is_current=False)
    rig.tell("acme/support", 1)
    asked = rig.names.ask(parse_reference("acme/other"))
    rig.hear(is_resumed=False)
    rig.names.answer(asked, 1, Resolution(adapter("tenants/acme/adapters/other/versions/1")))
    assert rig.known("acme/support") is None
    assert rig.known("acme/other") is None, "the answer may be from before the start"
    assert rig.stale("acme/other") is None


CHANGES = [
    ("ALIAS_CHANGED", f"{SUPPORT}/aliases/staging", {"acme/support@staging"}),
    ("ALIAS_CHANGED", f"{SUPPORT}/aliases/production", {"acme/support", "acme/support@production"}),
    ("VERSION_ACTIVE", f"{SUPPORT}/versions/9", {"acme/support", "acme/support@latest"}),
    ("VERSION_DISABLED", f"{SUPPORT}/versions/1",
     {"acme/support", "acme/support@latest", "acme/support@1", "acme/support@production"}),
    ("VERSION_DELETED", f"{SUPPORT}/versions/2",
     {"acme/support", "acme/support@latest", "acme/support@2", "acme/support@staging"}),
    ("ADAPTER_DELETED", SUPPORT, {
        "acme/support", "acme/support@latest", "acme/support@1", "acme/support@2", "acme/support@production",
        "acme/support@staging"}),
    ("TENANT_UPDATED", "tenants/acme", {
        "acme/support", "acme/support@latest", "acme/support@1", "acme/support@2", "acme/support@production",
        "acme/support@staging", "acme/other"}),
    ("TOKEN_REVOKED", "t123", set()),
    ("", "something of a newer store", {"all"}),
    ("SOMETHING", f"{SUPPORT}/versions/1", {"all"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "forgotten"), CHANGES)
def test_a_change_forgets_what_it_concerns_and_no_more(kind, name, forgotten):
    rig = Rig()
    versions = {
        "acme/support": 1, "acme/support@latest": 1, "acme/support@1": 1, "acme/support@2": 2,
        "acme/support@production": 1, "acme/support@staging": 2, "acme/other": 1, "acme-2/support": 1,
    }  # fmt: skip
    for each, version in versions.items():
        rig.tell(each, version)
    rig.names.change(kind, name)
    gone = {each for each in versions if rig.known(each) is None}
    assert gone == (set(versions) if "all" in forgotten else forgotten)
    assert {each for each in versions if rig.stale(each) is None} == gone, "what is known to be wrong"
    assert rig.names.stats().changes_seen == 1


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_split_is_forgotten_with_any_of_its_versions_and_its_shadow(version):
    rig = Rig()
    rig.tell("acme/support@x", 1, SPLIT, ShadowTarget(f"{SUPPORT}/versions/3", 0.5))
    key = next(key for key in "abcdefgh" if choose_target(SUPPORT, key, SPLIT) == 1)
    assert rig.known("acme/support@x", key) is not None
    rig.names.change("VERSION_ACTIVE", f"{SUPPORT}/versions/4")
    assert rig.known("acme/support@x", key) is not None
    rig.names.change("VERSION_DISABLED", f"{SUPPORT}/versions/{version}")
    assert rig.known("acme/support@x", key) is None


def test_each_target_of_a_split_is_asked_for_once():
    rig = Rig()
    ones = [key for key in "abcdefghijkl" if choose_target(SUPPORT, key, SPLIT) == 1]
    twos = [key for key in "abcdefghijkl" if choose_target(SUPPORT, key, SPLIT) == 2]
    first = rig.tell("acme/support@x", 1, SPLIT)
    assert [rig.known("acme/support@x", key) for key in ones] == [first] * len(ones)
    assert rig.known("acme/support@x", twos[0]) is None
    second = rig.tell("acme/support@x", 2, SPLIT)
    assert rig.known("acme/support@x", twos[0]) == second
    assert rig.known("acme/support@x", ones[0]) == first
    rig.tell("acme/support@x", 2, ((1, 10), (2, 90)))
    assert rig.known("acme/support@x", ones[0]) in (None, rig.known("acme/support@x", twos[0]))


def test_an_answer_that_a_change_overtook_is_not_remembered():
    rig = Rig()
    asked = rig.names.ask(parse_reference("acme/support@x"))
    other = rig.names.ask(parse_reference("acme/other@x"))
    rig.names.change("ALIAS_CHANGED", f"{SUPPORT}/aliases/x")
    rig.names.answer(asked, 1, Resolution(adapter(f"{SUPPORT}/versions/1")))
    rig.names.answer(other, 1, Resolution(adapter("tenants/acme/adapters/other/versions/1")))
    assert rig.known("acme/support@x") is None
    assert rig.known("acme/other@x") is not None


def test_a_refusal_forgets():
    rig = Rig()
    rig.tell("acme/support", 1)
    rig.names.refuse(rig.names.ask(parse_reference("acme/support")))
    assert rig.known("acme/support") is None
    assert rig.stale("acme/support") is None


def test_only_so_many_names_are_remembered_the_last_asked_for():
    rig = Rig(max_names=3)
    for name in ("a/a", "a/b", "a/c"):
        rig.tell(name, 1)
    assert rig.known("a/a") is not None
    rig.tell("a/d", 1)
    assert [name for name in ("a/a", "a/b", "a/c", "a/d") if rig.known(name)] == ["a/a", "a/c", "a/d"]


def test_what_it_says_of_itself():
    rig = Rig(is_current=False)
    rig.now_s = 4.0
    stats = rig.names.stats()
    assert (stats.connected, stats.disconnected_s) == (False, 4.0)
    rig.hear()
    rig.tell("acme/support", 1)
    rig.known("acme/support"), rig.known("acme/support"), rig.known("acme/none")
    rig.names.lose()
    rig.now_s = 9.0
    rig.stale("acme/support")
    rig.names.lose()
    stats = rig.names.stats()
    assert (stats.connected, stats.disconnected_s) == (False, 5.0)
    assert (stats.resolve_hits, stats.resolve_calls, stats.stale_resolves) == (2, 2, 1)
    assert repr(rig.names) == "KnownNames(DEAF, names=1, questions=0)"
