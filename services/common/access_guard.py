"""Stands before a servicer and lets through only the calls that its table of access rules allows.

What has no row in the table is refused. Must not know any RPC.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any, Protocol

import grpc

from services.common.access_rule import Place, Rule, Rules, Scope
from services.common.caller import Caller
from services.common.errors import Code, Reason, ServiceError
from services.common.gate import Gate
from services.common.open_streams import OpenStreams
from services.common.tenant_shares import TenantShares

# A lasting stream ends with this delay once its token is no good any more.
RECHECK_S = 5.0


class Places(Protocol):
    """Knows whose things requests name."""

    async def place(self, rule: Rule, request: Any) -> Place | None:
        """Where what `rule.field` of `request` names belongs. Raises ServiceError if it can name nothing.

        None: the request names no tenant, and the servicer shows only what `caller_of` may see.
        """
        ...


class GuardedContext:
    """A call's context that also knows the caller."""

    def __init__(self, context: Any, caller: Caller) -> None:
        self._context = context
        self.caller = caller

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def caller_of(context: Any) -> Caller:
    """Who makes this call. Only what came past a guard has one."""
    assert isinstance(context, GuardedContext), "a servicer is called past its guard"
    return context.caller


class AccessGuard:
    """Has the RPCs of `service` as methods: each asks the gate and the table, then calls the servicer's.

    `service` is the service's protobuf descriptor. Of a tenant's calls that are no streams so many are worked
    on as `calls_at_once` says, and the others wait for those; 0 is no bound.
    """

    def __init__(
        self,
        servicer: Any,
        service: Any,
        rules: Rules,
        gate: Gate,
        places: Places,
        clock: Callable[[], float] = time.monotonic,
        calls_at_once: int = 0,
    ) -> None:
        self._servicer = servicer
        self._methods = {method.name: method for method in service.methods}
        self._rules = rules
        self._gate = gate
        self._places = places
        self._clock = clock
        self._streams = OpenStreams()
        self._shares = TenantShares(calls_at_once) if calls_at_once else None

    def __getattr__(self, name: str) -> Any:
        method = self._methods.get(name)
        if method is None:
            raise AttributeError(name)
        if method.server_streaming:
            return self._guard_stream(name)
        return self._guard_upload(name) if method.client_streaming else self._guard_unary(name)

    def _guard_unary(self, name: str) -> Any:
        async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            caller = await self._caller(name, context)
            async with self._turn(caller):
                await self._check(name, request, caller)
                return await getattr(self._servicer, name)(request, GuardedContext(context, caller))

        return guarded

    def _turn(self, caller: Caller) -> AbstractAsyncContextManager[None]:
        # Operators and services are not counted: nobody but them could serve the others.
        if self._shares is None or caller.only_tenant is None:
            return nullcontext()
        return self._shares.of(caller.only_tenant)

    def _guard_stream(self, name: str) -> Any:
        async def guarded(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[Any]:
            caller = await self._admit(name, request, context)
            with self._streams.place(name, caller, self._rules[name].most_open):
                inner = getattr(self._servicer, name)(request, GuardedContext(context, caller))
                async with (
                    aclosing(inner) as responses,
                    aclosing(self._rechecked(name, request, context, responses)) as allowed,
                ):
                    async for response in allowed:
                        yield response

        return guarded

    def _guard_upload(self, name: str) -> Any:
        async def guarded(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            # The first message says what the stream is for. Nothing of it is read from strangers.
            caller = await self._caller(name, context)
            with self._streams.place(name, caller, self._rules[name].most_open):
                first = await anext(requests, None)
                if first is not None:
                    await self._check(name, first, caller)
                return await getattr(self._servicer, name)(
                    _with_first(first, self._rechecked(name, first, context, requests)),
                    GuardedContext(context, caller),
                )

        return guarded

    async def _rechecked(
        self, name: str, request: Any, context: Any, messages: AsyncIterator[Any]
    ) -> AsyncGenerator[Any, None]:
        """`messages`, until whoever sent `request` may not any more."""
        seen_s = self._clock()
        async for message in messages:
            if self._rules[name].lasting and self._clock() - seen_s >= RECHECK_S:
                await self._admit(name, request, context)
                seen_s = self._clock()
            yield message

    async def _admit(self, name: str, request: Any, context: Any) -> Caller:
        caller = await self._caller(name, context)
        await self._check(name, request, caller)
        return caller

    async def _caller(self, name: str, context: Any) -> Caller:
        if name not in self._rules:
            raise _refused(f"{name} has no access rule, so nobody may call it")
        return await self._gate.caller(context.invocation_metadata() or (), context.peer())

    async def _check(self, name: str, request: Any, caller: Caller) -> None:
        rule = self._rules[name]
        if rule.scope is Scope.OPERATORS and not caller.is_operator:
            raise operators_only(name)
        if rule.scope is Scope.TENANT and not caller.is_operator:
            place = await self._places.place(rule, request)
            if place is not None and not caller.may_enter(place.tenant):
                raise place.missing
        if not caller.role.includes(rule.role):
            raise _refused(
                f"{name} takes the role {rule.role}, and token {caller.name} has {caller.role}: ask an admin "
                "for a token of that role"
            )


async def _with_first(first: Any, rest: AsyncIterator[Any]) -> AsyncIterator[Any]:
    if first is None:
        return
    yield first
    async for message in rest:
        yield message


def operators_only(what: str, advice: str = "ask an operator") -> ServiceError:
    """`what` is for tokens that are good in every tenant; `advice` is what others do instead."""
    return _refused(f"{what} takes a token of tenants/*, as operators and services have: {advice}")


def _refused(message: str) -> ServiceError:
    return ServiceError(Code.PERMISSION_DENIED, Reason.ROLE_TOO_LOW, message)
