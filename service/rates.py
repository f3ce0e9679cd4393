"""How often somebody may ask: a token bucket each."""

import time
from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """A limit.

    Attributes:
        per_s: requests a second in the long run.
        burst: requests at once after a rest, at least 1.
    """

    per_s: float
    burst: float


@dataclass
class _Bucket:
    tokens: float
    filled_s: float


class Limiter:
    """The buckets of everybody who asks, in this process alone.

    Args:
        capacity: how many are remembered; whoever has not asked for longest is forgotten, and may burst anew.
    """

    def __init__(self, capacity: int = 2**16) -> None:
        self._capacity = capacity
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, who: str, rate: Rate, now_s: float | None = None) -> float:
        """Count a request, where it is within the rate.

        Args:
            who: asks.
            rate: theirs at this time.
            now_s: a monotonic clock; None reads it.

        Returns:
            0 where the request may go on; else the seconds until the next one may.
        """
        now_s = time.monotonic() if now_s is None else now_s
        bucket = self._buckets.setdefault(who, _Bucket(rate.burst, now_s))
        self._buckets.move_to_end(who)
        if len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)
        bucket.tokens = min(rate.burst, bucket.tokens + (now_s - bucket.filled_s) * rate.per_s)
        bucket.filled_s = now_s
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / rate.per_s
        bucket.tokens -= 1
        return 0.0
