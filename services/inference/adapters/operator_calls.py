"""What operators asked for and wait to be told: loads with their pins, and unloads.

Says when a load is where it was to go, and whether a pin may be. Moves no bytes, and must not know requests.
"""

from collections.abc import Iterable

from services.common.errors import ServiceError
from services.inference.adapters import refusals
from services.inference.adapters.device_room import DeviceRoom
from services.inference.adapters.entry import Entry
from services.inference.adapters.host_copies import HostCopies
from services.inference.adapters.tenant_use import LoadCall, TenantUse
from services.inference.messages import AdapterInfo, Freed, ResidencyState
from services.inference.request import AdapterKey

Completed = tuple[int, AdapterInfo | Freed | ServiceError]

HOST, LOADING, DEVICE = ResidencyState.HOST, ResidencyState.LOADING, ResidencyState.DEVICE


class OperatorCalls:
    """The calls of every adapter; each tenant's use holds its own."""

    def __init__(self, device: DeviceRoom, host: HostCopies) -> None:
        self._device = device
        self._host = host
        # Adapters with calls under way, so that a step need not look at all adapters.
        self._open: dict[AdapterKey, None] = {}
        self._completed: list[Completed] = []

    def load(self, entry: Entry, use: TenantUse, call_id: int, call: LoadCall) -> None:
        """Notes a load that is under way."""
        use.loads[call_id] = call
        self._open[entry.key] = None

    def unload(self, entry: Entry, use: TenantUse, call_id: int, tier: ResidencyState) -> None:
        """Notes an unload, which ends the tenant's pin and the loads there were of it."""
        use.pin = None
        self.fail_loads(entry, use, refusals.unloaded_meanwhile(use))
        use.unloads[call_id] = tier
        self._open[entry.key] = None

    def complete_loads(self, entry: Entry, use: TenantUse) -> None:
        """Answers the loads of `use` that `entry` is near enough for, and those whose pin is refused."""
        for call_id, call in tuple(use.loads.items()):
            refusal = self._pin_refusal(entry, use, call) if call.pin else None
            if refusal is None and not _is_reached(entry, use, call):
                continue
            del use.loads[call_id]
            if call.pin and refusal is None:
                use.pin = _pin_tier(entry, use, call)
                self._device.note(entry)
            self.answer(call_id, refusal or entry.info(use))

    def fail_loads(self, entry: Entry, use: TenantUse, error: ServiceError) -> None:
        """Answers every load of `use` with `error`."""
        self._completed += [(call_id, error) for call_id in use.loads]
        use.loads.clear()
        self.note(entry)

    def answer(self, call_id: int, value: AdapterInfo | Freed | ServiceError) -> None:
        """What the call gets."""
        self._completed.append((call_id, value))

    def note(self, entry: Entry) -> None:
        """Call after the last of an entry's calls may have been answered."""
        if not _has_calls(entry):
            self._open.pop(entry.key, None)

    def open_keys(self) -> tuple[AdapterKey, ...]:
        """Adapters with calls under way."""
        return tuple(self._open)

    def take_completed(self) -> list[Completed]:
        """The answers since the last call, by call_id."""
        completed, self._completed = self._completed, []
        return completed

    def check_integrity(self, entries: Iterable[Entry]) -> None:
        """Raises AssertionError unless the open calls are those that `entries` hold."""
        called = {entry.key for entry in entries if _has_calls(entry)}
        assert called == set(self._open), "operator calls under way"

    def _pin_refusal(self, entry: Entry, use: TenantUse, call: LoadCall) -> ServiceError | None:
        if entry.state not in (HOST, LOADING, DEVICE):
            return None
        tier = _pin_tier(entry, use, call)
        # Another's pin at the same tier holds the same bytes already.
        if entry.is_pinned(tier):
            return None
        if tier is DEVICE:
            return self._device.pin_refusal(entry, use)
        return self._host.pin_refusal(entry, use)


def _has_calls(entry: Entry) -> bool:
    return any(use.loads or use.unloads for use in entry.uses.values())


def _is_reached(entry: Entry, use: TenantUse, call: LoadCall) -> bool:
    state = entry.state_for(use)
    if state is DEVICE:
        return True
    # Without a host copy it is in the pool for others alone, and a pin needs it there for the tenant.
    return call.tier is HOST and state in (HOST, LOADING) and bool(entry.host_bytes or not call.pin)


def _pin_tier(entry: Entry, use: TenantUse, call: LoadCall) -> ResidencyState:
    # Without a host copy, the pool is the only place where it can be kept.
    if use.pin is DEVICE or call.tier is DEVICE or not entry.host_bytes:
        return DEVICE
    return HOST
