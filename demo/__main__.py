"""`python -m demo`: two real services, every demo adapter, concurrent streams; `--serve` keeps them up."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path

from rich.console import Console

from client import InferenceClient, MultiloraError
from demo.live import StreamView
from demo.processes import ServiceFailed
from demo.stack import Stack, adapter_name, publish_adapters, running_stack
from demo.streams import State, plan_streams, run_streams
from demo.summary import closing_line, engine_table, stream_table
from demo.tasks import TASKS

# A pipe has no width; tables are laid out for this many columns there.
_PIPE_WIDTH = 160


async def show_streams(console: Console) -> int:
    """The demo; returns the exit status: 1 if an adapter's answer was wrong."""
    async with running_stack(console.print) as stack:
        await publish_adapters(stack, console.print)
        streams = plan_streams()
        view = StreamView(console, streams)
        async with InferenceClient(stack.server.address) as client:
            console.print(f"\n{len(streams)} streams at once:\n")
            with view.shown():
                await run_streams(client, streams, view.on_change)
            if any(stream.state is State.failed for stream in streams):
                console.print(stack.server.with_log("\nstreams failed"), soft_wrap=True)
            stats = await client.get_stats()
    console.print()
    console.print(stream_table(streams))
    console.print(engine_table(stats))
    console.print(closing_line(streams), style="bold")
    return 1 if any(stream.is_bad for stream in streams) else 0


async def keep_serving(console: Console) -> int:
    """Both services until Ctrl-C."""
    async with running_stack(console.print, fixed_ports=True) as stack:
        await publish_adapters(stack, console.print)
        console.print("\nBoth services are up. In another terminal:\n", style="bold")
        for line in example_lines(stack):
            console.print(f"  {line}", soft_wrap=True)
        console.print("\nCtrl-C stops them.")
        await stack.wait_for_failure()
    return 0


def example_lines(stack: Stack) -> list[str]:
    """Commands to paste: one for each adapter, one for the base model, and a look at each service."""
    command = _command()
    server = "" if stack.server.address == "127.0.0.1:7000" else f" --server {stack.server.address}"
    store = "" if stack.store.address == "127.0.0.1:7001" else f" --store {stack.store.address}"
    generate = f"{command} generate{server} --temperature 0"
    lines = [f'{generate} --adapter {adapter_name(task.adapter)} "{task.words[0]}"' for task in TASKS]
    return [
        *lines,
        f'{generate} --stats "{TASKS[0].words[0]}"',
        f"{command} list{store}",
        f"{command} resident{server}",
        f"{command} stats{server}",
    ]


def _command() -> str:
    installed = Path(sys.executable).parent / "multilora"
    if not installed.exists():
        return f"{sys.executable} -m client.command"
    return str(installed.relative_to(Path.cwd()) if installed.is_relative_to(Path.cwd()) else installed)


def run_until_signalled(work: Coroutine[None, None, int]) -> int:
    """The exit status of `work`; Ctrl-C, SIGTERM and a closed terminal cancel it and let it clean up."""

    async def cancellable() -> int:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, task.cancel)
        return await task

    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError:
        print("stopped", file=sys.stderr)
        return 130
    except (ServiceFailed, MultiloraError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1


def make_console() -> Console:
    """stdout; wide where it is no terminal."""
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="keep both services up until Ctrl-C")
    arguments = parser.parse_args(argv)
    console = make_console()
    return run_until_signalled(keep_serving(console) if arguments.serve else show_streams(console))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
