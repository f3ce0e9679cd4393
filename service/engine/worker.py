"""Runner threads: each takes turn after turn; one that dies fails its own turn alone, and another takes its place."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from service.errors import UnavailableError

_LOG = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_CALM_S = 30.0
"""A runner that has lived so long was well; the next death is the first again."""


class Turn(Protocol):
    """One piece of work for a runner."""

    def run(self) -> None:
        """Do it, and tell whoever waits for it."""
        ...

    def fail(self, error: Exception) -> None:
        """Tell whoever waits that it will not be done."""
        ...


class Worker:
    """Runner threads over one source of turns.

    Args:
        take: gives the next turn, None where there is none; called with the lock of `changed` held.
        runners: how many threads.

    Attributes:
        changed: guards what `take` reads; notify it when there may be a turn.
        deaths: runners that have died since the start.
    """

    def __init__(self, take: Callable[[], Turn | None], *, runners: int = 1) -> None:
        self.changed = threading.Condition()
        self.deaths = 0
        self._take = take
        self._runners = runners
        self._alive = 0
        self._is_stopping = False
        self._threads: list[threading.Thread] = []
        self._last_death: str | None = None

    @property
    def fault(self) -> str | None:
        """Why there are fewer runners than there should be; None where all live, or none has been started."""
        return self._last_death if self._threads and self._alive < self._runners and not self._is_stopping else None

    def start(self) -> None:
        """Start the runners."""
        for _ in range(self._runners):
            self._spawn()

    def stop(self) -> None:
        """Take no further turn, and wait until the turns in progress have ended."""
        with self.changed:
            self._is_stopping = True
            self.changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _spawn(self, pause_s: float = _FIRST_PAUSE_S) -> None:
        thread = threading.Thread(target=self._live, args=(pause_s,), name="runner", daemon=True)
        with self.changed:
            self._threads = [known for known in self._threads if known.is_alive()] + [thread]
            self._alive += 1
        thread.start()

    def _live(self, pause_s: float) -> None:
        """Run turns; should that end otherwise than by `stop`, see to a successor."""
        born_s = time.monotonic()
        under_way: list[Turn] = []
        try:
            self._run_turns(under_way)
        except BaseException as error:  # noqa: BLE001 - whatever killed the runner, the service goes on
            self._bury(error)
        else:
            return
        # Those who waited are told after the death shows: they may ask for the state at once.
        for turn in under_way:
            turn.fail(UnavailableError("the runner of this request died; send the request again"))
        under_way.clear()
        if time.monotonic() - born_s > _CALM_S:
            pause_s = _FIRST_PAUSE_S
        time.sleep(pause_s)
        if not self._is_stopping:
            self._spawn(min(2 * pause_s, _LONGEST_PAUSE_S))

    def _bury(self, error: BaseException) -> None:
        """Let the death of a runner show."""
        with self.changed:
            self._alive -= 1
            self.deaths += 1
            self._last_death = f"a runner died of {error!r}; it is being replaced"
        _LOG.critical("a runner died and is replaced", exc_info=error)

    def _run_turns(self, under_way: list[Turn]) -> None:
        """Run turn after turn, each of which is under way until it has ended."""
        while True:
            with self.changed:
                while (turn := None if self._is_stopping else self._take()) is None:
                    if self._is_stopping:
                        return
                    self.changed.wait()
            under_way.append(turn)
            turn.run()
            under_way.clear()
            del turn  # what it holds of a model must not outlive the model while this thread waits
