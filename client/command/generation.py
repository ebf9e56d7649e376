"""`multilora generate`: stream one completion to stdout."""

import sys
import time
from typing import Annotated

import typer

from client.command.connection import open_server
from client.command.options import MAX_INT32, SERVER, Json, NoStore, Server, wait
from client.command.output import print_json
from client.events import Delta, Finished, Started
from client.generate_stream import GenerateStream
from client.names import short_name
from client.sampling import ChatMessage, SamplingParams


def add_to(app: typer.Typer) -> None:
    """Adds this module's commands."""
    app.command()(generate)


def generate(
    prompt: Annotated[str, typer.Argument(help="The prompt; - reads it from stdin.")],
    adapter: Annotated[
        str, typer.Option(help="Name, name@alias or name@version; none: the base model.")
    ] = "",
    chat: Annotated[bool, typer.Option("--chat", help="Send it as a user's message.")] = False,
    system: Annotated[str, typer.Option(help="With --chat: the system message.")] = "",
    max_tokens: Annotated[
        int | None, typer.Option(min=1, max=MAX_INT32, help="At most this many new tokens.")
    ] = None,
    min_tokens: Annotated[
        int | None, typer.Option(min=0, max=MAX_INT32, help="No stop before this many.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy; the server's default is 1.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus sampling.")] = None,
    top_k: Annotated[
        int | None, typer.Option(min=0, max=MAX_INT32, help="Keep the k most probable; 0 keeps all.")
    ] = None,
    min_p: Annotated[float | None, typer.Option(help="Drop tokens below this share of the best.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**64 - 1, help="The same seed, the same text.")
    ] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Text that ends it; may be repeated.")] = None,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Go on past end-of-sequence.")] = False,
    presence_penalty: Annotated[float | None, typer.Option(help="-2 to 2.")] = None,
    frequency_penalty: Annotated[float | None, typer.Option(help="-2 to 2.")] = None,
    repetition_penalty: Annotated[float | None, typer.Option(help="Above 0; 1 is off.")] = None,
    split_key: Annotated[
        str, typer.Option(help="Of an alias that splits traffic: the same key, the same version.")
    ] = "",
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", help="Give up after this long.")] = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="Print version, tokens and times on stderr.")
    ] = False,
    server: Server = SERVER,
    store: NoStore = "",
    json: Json = False,
) -> None:
    """Stream a completion to stdout as it is made.

    multilora generate --adapter acme/reverse "stone"

    multilora generate --adapter acme/support@staging --chat --temperature 0 --stats "Where is my parcel?"
    """
    if system and not chat:
        raise typer.BadParameter("needs --chat", param_hint="--system")
    text = sys.stdin.read() if prompt == "-" else prompt
    sampling = SamplingParams(
        max_tokens=max_tokens,
        min_tokens=min_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        seed=seed,
        stop=tuple(stop or ()),
        ignore_eos=ignore_eos,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        repetition_penalty=repetition_penalty,
    )
    turns = [ChatMessage("system", system)] if system else []
    messages = [*turns, ChatMessage("user", text)] if chat else None

    async def work() -> None:
        async with (
            open_server(server) as client,
            client.generate(
                adapter=adapter,
                text=None if chat else text,
                messages=messages,
                sampling=sampling,
                timeout_s=timeout,
                split_key=split_key,
            ) as stream,
        ):
            await (_print_result(stream) if json else _print_text(stream, stats))

    wait(work())


async def _print_result(stream: GenerateStream) -> None:
    print_json(await stream.result())


async def _print_text(stream: GenerateStream, stats: bool) -> None:
    asked_s = time.perf_counter()
    first_s = last_s = asked_s
    num_tokens = 0
    async for event in stream:
        if isinstance(event, Started) and stats:
            print(f"[{short_name(event.adapter_version) or 'base model'}]", file=sys.stderr)
        if isinstance(event, Delta):
            last_s = time.perf_counter()
            first_s = first_s if num_tokens else last_s
            num_tokens += len(event.token_ids)
            sys.stdout.write(event.text)
            sys.stdout.flush()
        if isinstance(event, Finished):
            sys.stdout.write("\n")
            sys.stdout.flush()
            if stats:
                _print_stats(event, first_s - asked_s, last_s - first_s, num_tokens)


def _print_stats(finished: Finished, ttft_s: float, rest_s: float, num_tokens: int) -> None:
    inter_token_ms = rest_s / (num_tokens - 1) * 1e3 if num_tokens > 1 else 0.0
    usage, timing = finished.usage, finished.timing
    print(
        f"[{finished.reason}; {usage.prompt_tokens} tokens in, {usage.completion_tokens} out; "
        f"first after {ttft_s * 1e3:.1f} ms, then {inter_token_ms:.1f} ms each; "
        f"queued {timing.queue_s * 1e3:.1f} ms, waited {timing.adapter_wait_s * 1e3:.1f} ms for the adapter]",
        file=sys.stderr,
    )
