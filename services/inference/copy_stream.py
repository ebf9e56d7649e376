"""The stream that adapters are copied on, and the order between it and the stream that computes.

Must not know what is copied or who waits. On a CPU everything is done when its call returns, so there is
nothing to order.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch

from services.inference.layer_gates import GateEvent


class EndEvent(GateEvent, Protocol):
    """A GateEvent that the host can wait for as well."""

    def synchronize(self) -> None:
        """Blocks the caller until the point recorded last is reached.

        Raises RuntimeError if the device failed.
        """
        ...


class CopyStream(Protocol):
    """In order among itself; beside the stream that computes, which is the caller's current one."""

    def behind_steps(self) -> AbstractContextManager[None]:
        """Meanwhile this is the current stream, behind all that the caller's launched before."""
        ...

    def make_gate(self) -> GateEvent:
        """An event that can be waited for from within a CUDA graph, and recorded again afterwards."""
        ...

    def make_end(self) -> EndEvent:
        """An event that the host can wait for without spinning."""
        ...

    def synchronize(self) -> None:
        """Blocks the caller until nothing is under way."""
        ...


class DoneEvent:
    """An event of a device that does everything at once."""

    def record(self) -> None:
        """As GateEvent."""

    def wait(self) -> None:
        """As GateEvent."""

    def synchronize(self) -> None:
        """As EndEvent."""


class CpuCopyStream:
    """`CopyStream` of a CPU."""

    def behind_steps(self) -> AbstractContextManager[None]:
        """As CopyStream."""
        return nullcontext()

    def make_gate(self) -> GateEvent:
        """As CopyStream."""
        return DoneEvent()

    def make_end(self) -> EndEvent:
        """As CopyStream."""
        return DoneEvent()

    def synchronize(self) -> None:
        """As CopyStream."""


class CudaCopyStream:
    """`CopyStream` of a GPU: one stream beside the others."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def behind_steps(self) -> Iterator[None]:
        """As CopyStream."""
        self._stream.wait_event(torch.cuda.current_stream(self._device).record_event())
        with torch.cuda.stream(self._stream):
            yield

    def make_gate(self) -> GateEvent:
        """As CopyStream; recorded once, since a capture ignores events that never were."""
        event = torch.cuda.Event(external=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def make_end(self) -> EndEvent:
        """As CopyStream."""
        event: torch.cuda.Event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        return event

    def synchronize(self) -> None:
        """As CopyStream."""
        self._stream.synchronize()


def make_copy_stream(device: torch.device) -> CopyStream:
    """The one that fits `device`."""
    return CudaCopyStream(device) if device.type == "cuda" else CpuCopyStream()
