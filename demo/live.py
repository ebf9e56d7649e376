"""Shows the demo's streams while they run: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from demo.streams import State, Stream

_STYLES = {
    State.waiting: "dim",
    State.streaming: "cyan",
    State.right: "green",
    State.wrong: "bold red",
    State.base: "yellow",
    State.failed: "bold red",
}

_FRAMES_PER_S = 20


class StreamView:
    """What a terminal or a log file sees of the streams."""

    def __init__(self, console: Console, streams: Sequence[Stream]) -> None:
        self._console = console
        self._streams = streams

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Live for as long as the `with` lasts."""
        if not self._console.is_terminal:
            yield
            return
        with Live(
            get_renderable=self._table,
            console=self._console,
            refresh_per_second=_FRAMES_PER_S,
            transient=True,
        ):
            yield

    def on_change(self, stream: Stream) -> None:
        """Hears of each event; where nothing is live, prints the stream once it is over."""
        if self._console.is_terminal or not stream.is_over:
            return
        self._console.print(
            f"{stream.label:<18} {stream.prompt} -> {stream.error or stream.text}",
            style=None,
            markup=False,
            soft_wrap=True,
        )

    def _table(self) -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
        table.add_column("adapter", no_wrap=True)
        table.add_column("prompt", no_wrap=True)
        table.add_column("text as it arrives", no_wrap=True, ratio=1)
        for stream in self._streams:
            style = _STYLES[stream.state]
            text = Text(stream.error or stream.text, style)
            if stream.state is State.streaming:
                text.append("▌")
            table.add_row(Text(stream.label, style), stream.prompt, text)
        return table
