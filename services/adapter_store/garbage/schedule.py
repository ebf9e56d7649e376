"""Collects garbage again and again, for a store that is told to. Every replica may do it at once."""

import asyncio
import logging
import threading

from services.adapter_store.garbage.collection import Collector

log = logging.getLogger(__name__)


async def collect_regularly(collector: Collector, interval_s: float) -> None:
    """Collects each time `interval_s` has passed, until it is cancelled; a failure is logged and the next
    time is another try.
    """
    stopping = threading.Event()
    try:
        while True:
            await asyncio.sleep(interval_s)
            try:
                await asyncio.to_thread(collector.collect, False, is_stopping=stopping.is_set)
            except Exception:
                log.exception("garbage was not collected; trying again in %.0f s", interval_s)
    finally:
        stopping.set()
