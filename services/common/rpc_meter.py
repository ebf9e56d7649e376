"""How long calls took, by method and code. Must not know any service, nor who exports it."""

from services.common.histogram import Histogram


class RpcMeter:
    """Calls that have ended. Methods are those of a server's handlers, so their number is bounded."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, ...], Histogram] = {}

    def note(self, method: str, code: str, seconds: float) -> None:
        """Counts a call of `/package.Service/Method` that ended with `code`."""
        key = (method.rpartition("/")[2], code)
        if key not in self.seconds:
            self.seconds[key] = Histogram()
        self.seconds[key].observe(seconds)

    def __repr__(self) -> str:
        return f"RpcMeter({sum(each.num_observed for each in self.seconds.values())} calls)"
