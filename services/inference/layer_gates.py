"""Where a step waits, on the device, for adapters that are still being copied into the pool.

A load opens gates one after another as its copies advance; a step that uses the adapter passes a gate before
it reads what the gate guards, so that it runs right behind the copy. Must not know torch, pages or what is
copied: events are the device's, and every method is to be called from the thread that launches steps.

Copies are in order: whoever has passed a gate has passed it for every load that was begun before.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol


class GateEvent(Protocol):
    """A point of a stream, moved by each `record`; torch.cuda.Event is one."""

    def record(self) -> None:
        """Moves it to the end of the current stream."""
        ...

    def wait(self) -> None:
        """Holds back the current stream, not the caller, until the point recorded last is reached."""
        ...


class LayerGates(Protocol):
    """What a step calls on its way through the layers."""

    def wait(self, layer: int) -> None:
        """Call before launching what reads rank rows of `layer`, in order of layers.

        Layer 0 stands for the embedding too, the number of layers for the head.
        """
        ...


class OpenGates:
    """The `LayerGates` of steps that need wait for no load: nothing is launched for it."""

    def wait(self, layer: int) -> None:
        """As LayerGates."""


OPEN_GATES = OpenGates()


def first_layers(num_layers: int) -> tuple[int, ...]:
    """Layers that have a gate before them, which guards those up to the next: 0, 1, 3, 7 and so on.

    A copy is faster than a step, and is ahead of it after the first gate. So a gate each doubling holds a
    step back no longer than one a layer would, for fewer events and copies. The head has its own.
    """
    firsts = [0]
    while (following := 2 * firsts[-1] + 1) < num_layers:
        firsts.append(following)
    return (*firsts, num_layers)


class LoadGates:
    """One event a gate, recorded again by each load, and the loads under way.

    It is `LayerGates` itself, for a CUDA graph of steps that may use an adapter that is being copied: the
    events stay the same, so what a capture waits for is whatever load recorded them before the replay.
    """

    def __init__(self, site_layers: Sequence[int], make_event: Callable[[], GateEvent]) -> None:
        """`site_layers` is each site's layer, as `LayerGates.wait` counts them."""
        self._firsts = first_layers(max(site_layers))
        self._events = tuple([make_event() for _ in self._firsts])
        self._gate_before = {first: gate for gate, first in enumerate(self._firsts)}
        self._under_way: dict[int, GateEvent] = {}
        self.site_gates = tuple([self._guard(layer) for layer in site_layers])

    @property
    def num_gates(self) -> int:
        """How many there are; `site_gates` is the one that guards each site."""
        return len(self._events)

    def wait(self, layer: int) -> None:
        """As LayerGates: for all loads begun so far, whoever uses them."""
        gate = self._gate_before.get(layer)
        if gate is not None:
            self._events[gate].wait()

    def record(self, gate: int) -> None:
        """Call on the stream that copies, behind the last copy that holds rank rows guarded by `gate`."""
        self._events[gate].record()

    def begin(self, adapter_index: int, ended: GateEvent) -> None:
        """Notes a load into `adapter_index` whose copies are launched; `ended` is behind the last of them."""
        self._under_way[adapter_index] = ended

    def end(self, adapter_index: int) -> None:
        """Notes that the host has seen the load's end."""
        self._under_way.pop(adapter_index, None)

    def for_step(self, adapter_indices: Iterable[int]) -> LayerGates:
        """The gates of a step that uses these adapters: open unless one of them is being copied."""
        return OPEN_GATES if self._under_way.keys().isdisjoint(adapter_indices) else self

    def wait_for_whole(self, adapter_indices: Iterable[int]) -> None:
        """Holds back the current stream until these adapters are copied; nothing if they are.

        For steps that have no gates within.
        """
        for index in self._under_way.keys() & set(adapter_indices):
            self._under_way[index].wait()

    def __repr__(self) -> str:
        return f"LoadGates(gates={self.num_gates}, under_way={len(self._under_way)})"

    def _guard(self, layer: int) -> int:
        return max(gate for gate, first in enumerate(self._firsts) if first <= layer)
