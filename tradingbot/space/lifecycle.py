"""The Space's lifecycle during the job: the first run wakes it, the last run pauses it.

Runs that share a database share the Space through a lock. The run that takes the lock exclusively
wakes the Space, then downgrades to shared so that others can join. All hold it shared while they
work. A run that is done releases the lock and tries to take it exclusively. If that succeeds, no
other run is left, and it pauses the Space.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from tenacity import RetryCallState, wait_fixed, wait_random

from tradingbot.errors import DatabaseError, HubError, HubRefused, KronosError
from tradingbot.formatting import quoted
from tradingbot.persistence.transactions import retried
from tradingbot.runtime.lock_interface import Lock, NoLock
from tradingbot.runtime.retry import growing, poll
from tradingbot.runtime.signals import asked_to_stop, signals_held
from tradingbot.settings import PausePolicy
from tradingbot.space.hub import FAILED, RUNS, STILL, HubSpace
from tradingbot.space.log_lines import parse_line
from tradingbot.space.orphaned_space import Health, NoWakeLog, OrphanedSpace, WakeLog, warn_loudly

logger = logging.getLogger(__name__)


@contextmanager
def running_space(
    hub: HubSpace,
    client: Health,
    *,
    check: Callable[[], object] = lambda: None,
    timeout: float = 900.0,
    pause: PausePolicy = "always",
    say: Callable[[str], None] = logger.info,
    lock: Lock | None = None,
    wake_log: WakeLog | None = None,
) -> Iterator[dict[str, Any]]:
    """Restart the Space, yield /health of the new container, and pause it at the end.

    The Space is neither restarted nor paused while other runs use it. The pause happens on every
    exit, including signals, and is verified. A failed pause is logged as an error and raised as
    HubError unless another error is already being raised.

    Args:
        hub: The Space on the Hub.
        client: Reads its /health.
        check: Called before the wake. If it raises, only a Space that was left running is paused.
        timeout: Seconds until the Space must be up.
        pause: "if-woken" pauses only if a run woke the Space, "never" does not pause.
        say: Shows a line.
        lock: Lock with which runs share the Space.
        wake_log: Record of which run woke the Space.

    Raises:
        HubError: The Space is not up within `timeout` seconds.
        HubRefused: The token or the name is wrong; nothing was changed.
    """
    lease = _SpaceLease(hub, client, lock or NoLock(), wake_log or NoWakeLog(), pause, say)
    try:
        check()
        yield lease.begin(timeout)
    except BaseException:
        lease.end(raises=False)  # the original error is more informative
        raise
    else:
        lease.end(raises=True)


def wait_for_new_container(
    hub: HubSpace,
    client: Health,
    *,
    other_than: str | None,
    timeout: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Wait until the stage is RUNNING and /health has a boot_id other than `other_than`.

    Raises:
        HubError: At once if the start fails, with the end of the log; or after `timeout` seconds.
    """
    started = time.monotonic()
    hub = hub.until(started + timeout)
    shown, stages = "", set[str]()
    trouble = ""

    def look() -> dict[str, Any] | None:
        nonlocal shown, trouble
        waited = time.monotonic() - started
        try:
            stage = hub.stage()
        except HubRefused:
            raise
        except HubError as error:  # the Hub may be back before the deadline
            trouble = str(error)
            return None
        if stage != shown:
            shown = stage
            say(f"Space {hub.repo}: {stage} after {waited:.0f} s")
        stages.add(stage)
        # Just after a restart the stage of an earlier failure may still be shown.
        if stage in FAILED and (len(stages) > 1 or waited > hub.timeouts.hub_stale_stage):
            raise _failed(hub, stage)
        if stage != "RUNNING":
            return None
        try:
            health = client.health()
        except KronosError as error:
            trouble = str(error)
            return None
        trouble = "the old container still answers"
        new = health.get("status") == "ok" and health.get("boot_id") != other_than
        return health if new else None

    health = poll(look, until=hub.deadline, wait=growing(hub.timeouts.hub_backoff / 2, 5.0))
    if health is None:
        raise HubError(
            f"Space {hub.repo} was not up within {timeout:g} s (KRONOS_WAKE_TIMEOUT): "
            f"stage {shown or 'unknown'}{'; ' + trouble if trouble else ''}"
        )
    return health


def boot_id(client: Health, deadline: float = math.inf) -> str | None:
    """Return the boot_id of the running container, or None after three failed requests."""
    for _ in range(3):
        if time.monotonic() >= deadline:
            break
        try:
            return client.health().get("boot_id")
        except KronosError:
            continue
    return None


class _SpaceLease:
    """The use of the Space by one run, from `begin` to `end`."""

    def __init__(
        self,
        hub: HubSpace,
        client: Health,
        lock: Lock,
        wake_log: WakeLog,
        policy: PausePolicy,
        say: Callable[[str], None],
    ) -> None:
        self._hub = hub
        self._retried = partial(retried, timeouts=hub.timeouts)
        self._client = client
        self._lock = lock
        self._wake_log = wake_log
        self._policy = policy
        self._say = say
        self._woken = False  # the Space runs because a run woke it
        self._responsible = False  # this run started or joined it, and may have to pause it
        self._entered = False  # this run has requested a restart, or joined a run that did
        self._orphaned_space = OrphanedSpace(
            hub, client, pause=policy, lock=lock, wake_log=wake_log, say=say
        )

    def begin(self, timeout: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout
        pause = self._hub.timeouts.hub_backoff

        def tell_once(state: RetryCallState) -> None:
            if state.attempt_number == 1:
                holder = self._retried(self._lock.held_by)
                self._say(f"Space {self._hub.repo}: waiting for {holder}")

        health = poll(
            partial(self._get_in, deadline, timeout),
            until=deadline,
            wait=wait_random(0.5 * pause, 1.5 * pause),
            before_sleep=tell_once,
        )
        if health is None:
            raise HubError(
                f"Space {self._hub.repo} was not up within {timeout:g} s (KRONOS_WAKE_TIMEOUT): "
                f"this run waited for {self._lock.held_by()}"
            )
        return health

    def _get_in(self, deadline: float, timeout: float) -> dict[str, Any] | None:
        """Wake the Space, or join the runs that use it. Return None if neither is possible now."""
        patience = min(deadline - time.monotonic(), self._hub.timeouts.database_retry)
        if patience <= 0:  # too late to restart the Space
            return None
        if self._retried(self._lock.try_exclusive, patience=patience):
            health = self._wake(deadline, timeout)
            return health if self._retried(self._lock.try_shared) else None
        if self._retried(self._join):
            try:
                return self._client.health()
            # the Space has died, or the other runs are only checking the lock, as this run is
            except KronosError:
                self._lock.release()
        return None

    def _wake(self, deadline: float, timeout: float) -> dict[str, Any]:
        """Restart the Space while holding the lock exclusively."""
        hub = self._hub.until(deadline)
        stage = hub.stage()
        old_boot = boot_id(self._client, deadline) if stage in RUNS else None
        # a Space left running by a killed run also counts as woken
        self._woken = stage not in RUNS or self._wake_log.woke(hub.repo)
        self._wake_log.note_woken(hub.repo, self._woken)
        self._say(f"Space {hub.repo} ({stage}): restarting")
        self._entered = self._responsible = True  # a restart that times out may have taken effect
        try:
            hub.restart()
        except HubRefused:
            # a Space in any other stage keeps running, and no other run would pause the Space
            if stage in (*STILL, *FAILED):
                self._responsible = False
                self._wake_log.note_woken(hub.repo, False)
            raise
        return wait_for_new_container(
            hub, self._client, other_than=old_boot, timeout=timeout, say=self._say
        )

    def _join(self) -> bool:
        """Join the run that woke the Space."""
        with signals_held():
            if not self._lock.try_shared():
                return False
            self._entered = self._responsible = True
        self._woken = self._wake_log.woke(self._hub.repo)
        return True

    def end(self, *, raises: bool) -> None:
        if not self._entered:
            self._orphaned_space.pause_if_unused(wait_for_lock=False)
            self._lock.release()
            return
        failure: HubError | None = None
        with signals_held():  # the report of a failure must not be interrupted either
            # release first: of two runs that end together, one must get the lock
            self._lock.release()
            try:
                if self._pauses():
                    self._hub.pause()
                    self._say(f"Space {self._hub.repo}: paused")
                    self._wake_log.note_woken(self._hub.repo, False)
            except HubError as error:
                failure = error
                warn_loudly(self._hub.repo, error)
            self._lock.release()
        if failure and raises:  # HubRefused becomes a HubError too, because the work is done
            raise HubError(str(failure)) from failure

    def _pauses(self) -> bool:
        """Return whether this run has to pause the Space."""
        if not self._responsible:
            return False
        if self._policy == "never" or (self._policy == "if-woken" and not self._woken):
            self._say(f"Space {self._hub.repo}: left running (KRONOS_PAUSE={self._policy})")
            return False
        try:
            if self._lock.got_lost():
                self._await_others()
            alone = self._lock.try_exclusive()
        except DatabaseError as error:  # better paused than running unused
            logger.warning("cannot tell who else uses Space %s: %s", self._hub.repo, error)
            return True
        if not alone:
            self._say(f"Space {self._hub.repo}: left to the runs that still use it")
        return alone

    def _await_others(self) -> None:
        """Wait until other runs have retaken their locks, after a database restart."""
        if not self._wake_log.others_at_work():
            return
        self._say(f"Space {self._hub.repo}: the database restarted; waiting for the other runs")
        poll(
            lambda: self._lock.is_held() or asked_to_stop() or None,
            until=time.monotonic() + self._hub.timeouts.space_lock_regained,
            wait=wait_fixed(self._hub.timeouts.hub_backoff),
        )


def _failed(hub: HubSpace, stage: str) -> HubError:
    log = hub.log_tail(build=stage in ("BUILD_ERROR", "CONFIG_ERROR", "NO_APP_FILE"))
    for line in log.splitlines():
        logger.error("Space %s | %s", hub.repo, line)
    last_line = (log.strip().splitlines() or ["its log is not available"])[-1]
    reason = quoted(parse_line(last_line)[1].rpartition("\n")[2])
    return HubError(f"Space {hub.repo} failed to start: {stage}; {reason}")
