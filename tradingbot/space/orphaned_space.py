"""Find and pause a Space that runs unused, as after a killed run.

Each run that ends before it has woken the Space checks whether the Space runs unused. The run then
pauses the Space, or warns that the Space may still be running.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from tenacity import wait_fixed

from tradingbot.errors import HubError, KronosError
from tradingbot.runtime.clock import now
from tradingbot.runtime.lock_interface import Holder, Lock
from tradingbot.runtime.retry import poll
from tradingbot.runtime.signals import asked_to_stop, signals_held
from tradingbot.settings import PausePolicy
from tradingbot.space.hub import FAILED, STILL, HubSpace

logger = logging.getLogger(__name__)


class Health(Protocol):
    """The part of SpaceClient that is used here."""

    def health(self) -> dict[str, Any]: ...


class WakeLog(Protocol):
    """Record, shared by all runs, of whether a run woke the Space."""

    def woke(self, repo: str) -> bool: ...

    def note_woken(self, repo: str, woken: bool) -> None: ...

    def others_at_work(self) -> bool: ...


class NoWakeLog:
    """A wake log for a run that stores nothing."""

    def woke(self, repo: str) -> bool:
        return False

    def note_woken(self, repo: str, woken: bool) -> None:
        pass

    def others_at_work(self) -> bool:
        return False


_warned: set[str] = set()  # Spaces that this process has warned of and not seen paused since


def warn_loudly(repo: str, why: object) -> None:
    """Log that the Space may still be running, and what the operator has to do."""
    _warned.add(repo)
    logger.error(
        "THE SPACE MAY STILL BE RUNNING. %s. Pause it by hand in the settings of %s", why, repo
    )


class OrphanedSpace:
    """Check whether the Space runs unused, and pause it."""

    def __init__(
        self,
        hub: HubSpace,
        client: Health | None,  # None: its address is unknown
        *,
        pause: PausePolicy,
        lock: Lock,
        wake_log: WakeLog,
        say: Callable[[str], None],
    ) -> None:
        self._hub = hub
        self._client = client
        self._policy = pause
        self._lock = lock
        self._wake_log = wake_log
        self._say = say

    def pause_if_unused(self, *, wait_for_lock: bool = True) -> bool:
        """Pause the Space if no run uses it.

        Return False, and log an error, if it may still be running.

        After a run was killed, the database keeps the run's lock for a moment. With
        `wait_for_lock`, wait until the database releases this lock.
        """
        if self._policy == "never":
            return True
        with signals_held():
            try:
                self._pause_unused(wait_for_lock)
                return True
            except KronosError as error:
                warn_loudly(self._hub.repo, error)
                return False
            finally:
                self._lock.release()

    def _pause_unused(self, wait_for_lock: bool) -> None:
        others = self._others_use_it(wait=False)
        if others is True and not wait_for_lock:
            return
        stage, unknown = self._stage()
        if stage in (*STILL, *FAILED):
            if self._hub.repo in _warned:
                _warned.discard(self._hub.repo)
                self._say(f"Space {self._hub.repo}: is {stage} now")
            return
        if others is True and (others := self._others_use_it(wait=True)):
            self._leave_to(self._lock.held_by())
            return
        woken = self._woken()
        if unknown and woken is False and not self._answers():
            return  # nothing indicates that it runs
        if others is None:
            raise unknown or HubError(
                f"Space {self._hub.repo} is {stage}, and the database cannot say whether a run "
                "uses it"
            )
        self._pause(woken)

    def _leave_to(self, holder: Holder) -> None:
        idle = holder.idle(now())
        if idle is not None and idle > self._hub.timeouts.run_idle:
            raise HubError(f"It was left to a run that does nothing, {holder}")
        self._say(f"Space {self._hub.repo}: left to {holder}")

    def _pause(self, woken: bool | None) -> None:
        repo = self._hub.repo
        if self._policy == "if-woken" and woken is not True:
            if woken is None:
                raise HubError(f"The database cannot say whether a run woke Space {repo}")
            self._say(f"Space {repo}: left running (KRONOS_PAUSE={self._policy})")
            return
        self._hub.pause()
        self._say(f"Space {repo}: was left running, paused now")
        self._wake_log.note_woken(repo, False)

    def _stage(self) -> tuple[str | None, HubError | None]:
        """Return the stage, or the error if it is unknown."""
        patience = min(self._hub.pause_patience(), self._hub.timeouts.hub_answer)
        try:
            return self._hub.until(time.monotonic() + patience).stage(), None
        except HubError as error:
            return None, error

    def _others_use_it(self, *, wait: bool) -> bool | None:
        """Return whether another run holds the Space's lock; None if the database cannot say."""
        timeouts = self._hub.timeouts
        try:
            alone = poll(
                lambda: True if self._lock.try_exclusive() else False if asked_to_stop() else None,
                until=time.monotonic() + (timeouts.run_lock if wait else 0.0),
                wait=wait_fixed(timeouts.run_lock_poll),
            )
        except KronosError as error:
            logger.debug("cannot tell who uses Space %s: %s", self._hub.repo, error)
            return None
        return not alone

    def _woken(self) -> bool | None:
        """Return whether a run woke the Space; None if the database cannot say."""
        try:
            return self._wake_log.woke(self._hub.repo)
        except KronosError as error:
            logger.debug("cannot tell who woke Space %s: %s", self._hub.repo, error)
            return None

    def _answers(self) -> bool:
        if self._client is None:
            return False
        try:
            self._client.health()
            return True
        except KronosError:
            return False
