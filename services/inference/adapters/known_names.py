"""What adapters' names mean, remembered for as long as the store's changes are heard.

Pure state: every change is one method without I/O. While changes are heard, a name is answered from here
and forgotten the moment a change concerns it. While they are not, the store is to be asked each time, and
what is remembered serves only if it does not answer. A name that is known to mean something else by now is
forgotten in either case: better no answer than one that is known to be wrong.
Must not know the wire or torch.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from services.common.traffic_split import choose_target
from services.inference.adapter_name import AdapterReference, parse_reference
from services.inference.adapters.name_meaning import CONCERNS, Meaning
from services.inference.resolution import Resolution, StoreStats

MAX_NAMES = 100_000


class Hearing(StrEnum):
    """DEAF -> CATCHING_UP -> CURRENT, and back to DEAF at any time."""

    # No changes come.
    DEAF = "DEAF"
    # Changes come, but some that were made before now are still to come.
    CATCHING_UP = "CATCHING_UP"
    # Every change made before now has come.
    CURRENT = "CURRENT"


@dataclass(slots=True, eq=False)
class Question:
    """A call to the store that is under way. Outdated: a change came that its answer may not know."""

    reference: AdapterReference
    is_outdated: bool = False


@dataclass(slots=True)
class _Counters:
    changes_seen: int = 0
    resolve_hits: int = 0
    resolve_calls: int = 0
    stale_resolves: int = 0


@dataclass(slots=True)
class _OfAdapter:
    """All that concerns one adapter."""

    references: set[AdapterReference] = field(default_factory=set)
    questions: set[Question] = field(default_factory=set)


class KnownNames:
    """At most `max_names` names, the least recently asked for forgotten first."""

    def __init__(self, max_names: int = MAX_NAMES, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_names = max_names
        self._clock = clock
        self._hearing = Hearing.DEAF
        self._deaf_since_s = clock()
        self._meanings: OrderedDict[AdapterReference, Meaning] = OrderedDict()
        self._of_adapter: dict[str, _OfAdapter] = {}
        self._counters = _Counters()

    # ---- what requests ask

    def find(self, reference: AdapterReference, split_key: str) -> Resolution | None:
        """What the name means for this key, if that is certain."""
        if self._hearing is not Hearing.CURRENT:
            return None
        found = self._look_up(reference, split_key)
        if found is not None:
            self._counters.resolve_hits += 1
        return found

    def ask(self, reference: AdapterReference) -> Question:
        """Notes that the store is being asked. `answer`, `refuse`, `fall_back` or `give_up` must follow."""
        self._counters.resolve_calls += 1
        question = Question(reference)
        self._of_adapter.setdefault(reference.adapter, _OfAdapter()).questions.add(question)
        return question

    def answer(self, question: Question, version: int, resolution: Resolution) -> None:
        """The store's answer: remembered, unless a change came meanwhile that it may not know."""
        self._end(question)
        if question.is_outdated:
            return
        known = self._meanings.get(question.reference)
        if known is None or (known.targets, known.shadow) != (resolution.targets, resolution.shadow):
            known = Meaning(resolution.targets, resolution.shadow, {})
        if not resolution.targets:
            known.adapters.clear()
        known.adapters[version] = resolution.adapter
        self._remember(question.reference, known)

    def refuse(self, question: Question) -> None:
        """The store's answer is that the name means nothing: what it meant is forgotten."""
        self._end(question)
        self._forget(question.reference)

    def give_up(self, question: Question) -> None:
        """Nobody waits for the answer any more."""
        self._end(question)

    def fall_back(self, question: Question, split_key: str) -> Resolution | None:
        """The store does not answer: what the name last meant, if that is remembered."""
        self._end(question)
        return self.recall(question.reference, split_key)

    def recall(self, reference: AdapterReference, split_key: str) -> Resolution | None:
        """What the name last meant, if that is remembered, because the store does not answer."""
        found = self._look_up(reference, split_key)
        if found is not None:
            self._counters.stale_resolves += 1
        return found

    def remembers(self, reference: AdapterReference, split_key: str) -> bool:
        """Whether `recall` would find something."""
        return self._look_up(reference, split_key) is not None

    # ---- what the store tells

    def listen(self) -> None:
        """Changes come from now on: first those that were missed, or `forget_all` must follow."""
        self._hearing = Hearing.CATCHING_UP

    def catch_up(self) -> None:
        """Every change made before now has come."""
        assert self._hearing is not Hearing.DEAF, "changes come before they are all"
        self._hearing = Hearing.CURRENT

    def lose(self) -> None:
        """No changes come any more."""
        if self._hearing is not Hearing.DEAF:
            self._hearing = Hearing.DEAF
            self._deaf_since_s = self._clock()

    def change(self, kind: str, name: str) -> None:
        """Forgets whatever this change concerns. An unknown kind concerns everything."""
        self._counters.changes_seen += 1
        if kind == "TOKEN_REVOKED":
            return
        changed = parse_reference(name)
        if kind == "TENANT_UPDATED":
            for adapter in [each for each in self._of_adapter if each.startswith(f"{name}/")]:
                self._forget_adapter(adapter)
        elif changed is None or kind not in CONCERNS:
            self.forget_all()
        elif changed.adapter in self._of_adapter:
            of_adapter = self._of_adapter[changed.adapter]
            _outdate(of_adapter)
            for reference in tuple(of_adapter.references):
                if CONCERNS[kind](reference, self._meanings[reference], changed):
                    self._forget(reference)

    def forget_all(self) -> None:
        """Forgets every name, and distrusts answers that are under way."""
        for adapter in tuple(self._of_adapter):
            self._forget_adapter(adapter)

    # ---- for people

    def stats(self) -> StoreStats:
        """Counters since the start; how long no changes have been heard."""
        counters, is_current = self._counters, self._hearing is Hearing.CURRENT
        is_deaf = self._hearing is Hearing.DEAF
        return StoreStats(
            connected=is_current,
            disconnected_s=self._clock() - self._deaf_since_s if is_deaf else 0.0,
            changes_seen=counters.changes_seen,
            resolve_hits=counters.resolve_hits,
            resolve_calls=counters.resolve_calls,
            stale_resolves=counters.stale_resolves,
        )

    def check_integrity(self) -> None:
        """Raises AssertionError unless the index holds what there is, within its bound."""
        assert len(self._meanings) <= self._max_names, f"{len(self._meanings)} names"
        indexed = {each for of_adapter in self._of_adapter.values() for each in of_adapter.references}
        assert indexed == set(self._meanings), "the index differs from what is remembered"
        for adapter, of_adapter in self._of_adapter.items():
            assert of_adapter.references or of_adapter.questions, f"nothing of {adapter} is left"
            assert all(each.adapter == adapter for each in of_adapter.references), f"not of {adapter}"
        for reference, known in self._meanings.items():
            assert known.adapters, f"{reference} means nothing"
            targets = {version for version, _ in known.targets}
            assert len(known.adapters) == 1 or set(known.adapters) <= targets, f"{reference} means too much"

    def check_idle(self) -> None:
        """Raises AssertionError if a question is still open."""
        self.check_integrity()
        assert self._num_questions == 0, f"{self._num_questions} questions were not answered"

    @property
    def _num_questions(self) -> int:
        return sum(len(of_adapter.questions) for of_adapter in self._of_adapter.values())

    def __repr__(self) -> str:
        return f"KnownNames({self._hearing}, names={len(self._meanings)}, questions={self._num_questions})"

    # ---- inside

    def _look_up(self, reference: AdapterReference, split_key: str) -> Resolution | None:
        known = self._meanings.get(reference)
        if known is None:
            return None
        version = next(iter(known.adapters))
        if known.targets:
            version = choose_target(reference.adapter, split_key, known.targets)
        if version not in known.adapters:
            return None
        self._meanings.move_to_end(reference)
        return Resolution(known.adapters[version], known.targets, known.shadow)

    def _remember(self, reference: AdapterReference, known: Meaning) -> None:
        self._meanings[reference] = known
        self._meanings.move_to_end(reference)
        self._of_adapter.setdefault(reference.adapter, _OfAdapter()).references.add(reference)
        if len(self._meanings) > self._max_names:
            self._forget(next(iter(self._meanings)))

    def _forget(self, reference: AdapterReference) -> None:
        if self._meanings.pop(reference, None) is not None:
            self._of_adapter[reference.adapter].references.discard(reference)
            self._tidy(reference.adapter)

    def _forget_adapter(self, adapter: str) -> None:
        of_adapter = self._of_adapter[adapter]
        _outdate(of_adapter)
        for reference in tuple(of_adapter.references):
            self._forget(reference)

    def _end(self, question: Question) -> None:
        adapter = question.reference.adapter
        self._of_adapter[adapter].questions.remove(question)
        self._tidy(adapter)

    def _tidy(self, adapter: str) -> None:
        of_adapter = self._of_adapter[adapter]
        if not of_adapter.references and not of_adapter.questions:
            del self._of_adapter[adapter]


def _outdate(of_adapter: _OfAdapter) -> None:
    for question in of_adapter.questions:
        question.is_outdated = True
