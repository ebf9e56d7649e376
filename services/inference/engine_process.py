"""The engine's own process: builds the engine, then drives it between the pipe and its inbox.

One reader thread puts commands, and the adapter I/O's threads put completions, into one inbox; the
main thread owns all state. Must not know gRPC services: it talks to the front end by messages only.
"""

import logging
import queue
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection
from typing import cast

from services.common.errors import Code, Reason, ServiceError
from services.common.telemetry import set_up_logging
from services.inference.adapters.direct_read import DirectReads
from services.inference.adapters.io import Completion
from services.inference.adapters.store_reader import StoreReader
from services.inference.engine import Engine
from services.inference.engine_parts import SWITCH_INTERVAL_S, LoadWeights, build_engine
from services.inference.messages import Command, Failed, Shutdown
from services.inference.model.weights import load_weights
from services.inference.settings import Settings

log = logging.getLogger(__name__)

Inbox = queue.SimpleQueue[Command | Completion]


def run_engine(settings: Settings, connection: Connection, load: LoadWeights = load_weights) -> None:
    """Entry of the spawned process; returns after Shutdown or when the front end is gone.

    Sends `Failed` with an empty request id instead of `Ready` if the model cannot be loaded.
    """
    # Ctrl-C goes to the whole terminal group; the front end decides when the engine stops.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_up_logging(settings.log_level, "engine", settings.log_format)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    inbox: Inbox = queue.SimpleQueue()
    try:
        engine, ready, close = build_engine(settings, inbox.put, _reader(settings), load=load)
    except (ServiceError, ValueError, OSError) as error:
        connection.send((Failed("", _as_service_error(error)),))
        return
    threading.Thread(target=_read_commands, args=(connection, inbox), name="commands", daemon=True).start()
    log.info("ready: %d pages of %d bytes", ready.num_pages, ready.page_bytes)
    try:
        connection.send((ready,))
        _drive(engine, inbox, connection)
    except ConnectionError:
        log.info("the front end is gone; stopping")
    finally:
        close()


def _reader(settings: Settings) -> StoreReader:
    direct = DirectReads(settings.direct_reads_ca_file) if settings.direct_reads else None
    return StoreReader(settings.store_link, direct)


def _as_service_error(error: ServiceError | ValueError | OSError) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    return ServiceError(Code.INVALID_ARGUMENT, Reason.INVALID_FIELD, str(error))


def _read_commands(connection: Connection, inbox: Inbox) -> None:
    while True:
        try:
            command = cast(Command, connection.recv())
        except (EOFError, OSError):
            command = Shutdown()
        inbox.put(command)
        if isinstance(command, Shutdown):
            return


def _drive(engine: Engine, inbox: Inbox, connection: Connection) -> None:
    busy = True
    while True:
        for message in _take(inbox, engine, block=not busy):
            if isinstance(message, Shutdown):
                return
            if isinstance(message, Completion):
                engine.complete(message)
            else:
                engine.handle(message)
        events, busy = engine.step()
        if events:
            connection.send(events)


def _take(inbox: Inbox, engine: Engine, *, block: bool) -> list[Command | Completion]:
    messages: list[Command | Completion] = []
    if block:
        deadline_s = engine.next_deadline_s
        timeout_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
        try:
            messages.append(inbox.get(timeout=timeout_s))
        except queue.Empty:
            return messages
    while True:
        try:
            messages.append(inbox.get_nowait())
        except queue.Empty:
            return messages
