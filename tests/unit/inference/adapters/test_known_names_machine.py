"""Whatever the order of changes, breaks and answers: no name is answered with what it no longer means."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.common.traffic_split import choose_target
from services.inference.adapter_name import parse_reference
from services.inference.adapters.known_names import KnownNames
from services.inference.resolution import Resolution
from tests.fakes import adapter

ADAPTER = "tenants/acme/adapters/support"
NAMES = ("acme/support", "acme/support@production", "acme/support@x", "acme/support@1", "acme/support@latest")
KEYS = ("a", "b", "c", "d")
AIMS = ((1,), (2,), (1, 2))


class Store:
    """Two versions and two aliases; every state that it ever had, by how many changes led to it."""

    def __init__(self):
        self.states = [({"production": (1,), "x": (2,)}, frozenset({1, 2}))]
        self.changes = []

    def change(self, kind, name, aliases, active):
        self.changes.append((kind, f"{ADAPTER}/{name}"))
        self.states.append((aliases, active))

    def resolve(self, name, key, at):
        """(version, targets) or None, as of state `at`."""
        aliases, active = self.states[at]
        reference = parse_reference(name)
        if reference.version is not None:
            version, targets = reference.version, ()
        elif reference.alias == "latest":
            version, targets = max(active, default=0), ()
        else:
            aim = aliases[reference.alias or "production"]
            targets = tuple((version, 1) for version in aim) if len(aim) > 1 else ()
            version = choose_target(ADAPTER, key, targets) if targets else aim[0]
        return (version, targets) if version in active else None


class Machine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.store = Store()
        self.names = KnownNames()
        self.heard = 0  # how many changes have been told
        self.is_listening = False
        self.connected_at = 0
        self.open = []  # [question, name, key, state that the answer is of or None]

    @rule(alias=st.sampled_from(["production", "x"]), aim=st.sampled_from(AIMS))
    def move(self, alias, aim):
        aliases, active = self.store.states[-1]
        self.store.change("ALIAS_CHANGED", f"aliases/{alias}", {**aliases, alias: aim}, active)

    @rule(version=st.sampled_from([1, 2]))
    def toggle(self, version):
        aliases, active = self.store.states[-1]
        kind = "VERSION_DISABLED" if version in active else "VERSION_ACTIVE"
        self.store.change(kind, f"versions/{version}", aliases, active ^ {version})

    @precondition(lambda self: not self.is_listening)
    @rule(is_resumed=st.booleans())
    def connect(self, is_resumed):
        self.names.listen()
        if not is_resumed:
            self.names.forget_all()
            self.heard = len(self.store.changes)
        self.is_listening = True
        self.connected_at = len(self.store.changes)
        self.catch_up()

    @precondition(lambda self: self.is_listening)
    @rule(count=st.integers(1, 3))
    def hear(self, count):
        for kind, name in self.store.changes[self.heard : self.heard + count]:
            self.names.change(kind, name)
            self.heard += 1
        self.catch_up()

    def catch_up(self):
        if self.heard == len(self.store.changes):
            self.names.catch_up()

    @precondition(lambda self: self.is_listening)
    @rule(really=st.integers(0, 3))
    def lose(self, really):
        if really:
            return

        self.names.lose()
        self.is_listening = False

    @rule(name=st.sampled_from(NAMES), key=st.sampled_from(KEYS), is_answered=st.booleans())
    def ask(self, name, key, is_answered):
        at = len(self.store.changes) if is_answered else None
        self.open.append([self.names.ask(parse_reference(name)), name, key, at])

    @rule(name=st.sampled_from(NAMES), key=st.sampled_from(KEYS))
    def resolve(self, name, key):
        self.take([self.names.ask(parse_reference(name)), name, key, len(self.store.changes)])

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def take_answer(self, data):
        each = data.draw(st.sampled_from(self.open))
        self.open.remove(each)
        if each[3] is None:
            each[3] = len(self.store.changes)
        self.take(each)

    def take(self, each):
        question, name, key, at = each
        found = self.store.resolve(name, key, at)
        if found is None:
            self.names.refuse(question)
            return
        version, targets = found
        resolution = Resolution(adapter(f"{ADAPTER}/versions/{version}"), targets)
        self.names.answer(question, version, resolution)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), is_silent=st.booleans())
    def take_none(self, data, is_silent):
        each = data.draw(st.sampled_from(self.open))
        self.open.remove(each)
        if is_silent:
            self.names.fall_back(each[0], each[2])
        else:
            self.names.give_up(each[0])

    @invariant()
    def what_is_certain_was_true_since_the_connection_and_the_last_change_heard(self):
        for name in NAMES:
            for key in KEYS:
                found = self.names.find(parse_reference(name), key)
                if found is None:
                    continue
                assert self.is_listening
                told = (int(found.adapter.version_name.rpartition("/")[2]), found.targets)
                since = range(max(self.heard, self.connected_at), len(self.store.states))
                assert told in [self.store.resolve(name, key, at) for at in since], (name, key)

    @invariant()
    def adds_up(self):
        self.names.check_integrity()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
