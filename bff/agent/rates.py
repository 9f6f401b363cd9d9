"""How often one client, and all of them together, may knock (OPS-5, D15). Counted in this process's memory."""

from __future__ import annotations

import ipaddress
import math
import time

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from bff.agent.options import Rate


def client_key(client_ip: str) -> str:
    """One key for all spellings of an address; an IPv6 client owns its /64, so that is what counts as one client."""
    try:
        address = ipaddress.ip_address(client_ip)
    except ValueError:
        return "unknown"
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


class RateGate:
    """Lets ``rate`` through. Clients are counted before everybody is, so that one of them can't spend what belongs to all."""

    def __init__(self, name: str, rate: Rate) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._per_client = RateLimitItemPerMinute(rate.per_client)
        self._together = RateLimitItemPerMinute(rate.together)
        self._name = name

    async def knock(self, client_ip: str) -> int:
        """Seconds until this client may knock again; 0 if it may now, and then it is counted."""
        for limit, keys in ((self._per_client, (self._name, client_key(client_ip))), (self._together, (self._name,))):
            if not await self._limiter.hit(limit, *keys):
                stats = await self._limiter.get_window_stats(limit, *keys)
                return max(1, math.ceil(stats.reset_time - time.time()))
        return 0
