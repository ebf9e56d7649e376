"""Load on a server: streams without end, and how each of them ended."""

import asyncio
import itertools

from client import MultiloraError, SamplingParams

LONG = SamplingParams(temperature=0.0, max_tokens=48, ignore_eos=True)


class Traffic:
    """Endless requests, for every adapter in turn, and how they ended."""

    def __init__(self, client, names):
        self._client = client
        self._names = names
        self._wanted = True
        self.num_finished = 0
        self.broken = []
        self.refusals = []
        self._ended = asyncio.Event()

    async def run(self, first):
        for number in itertools.count(first):
            if not self._wanted:
                return
            await self._request(self._names[number % len(self._names)])

    async def _request(self, name):
        has_begun = False
        try:
            async for _ in self._client.generate(adapter=name, text="stone", sampling=LONG):
                has_begun = True
            self.num_finished += 1
        except MultiloraError as error:
            if has_begun:
                self.broken.append(error)
            else:
                self.refusals.append(error)
        self._ended.set()

    async def until_finished(self, num):
        while self.num_finished < num:
            self._ended.clear()
            await self._ended.wait()

    def stop(self):
        self._wanted = False
