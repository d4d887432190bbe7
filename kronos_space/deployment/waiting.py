"""Wait until the Hub has built and started a Space."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
from huggingface_hub import SpaceInfo
from tenacity import Retrying, retry_if_result, wait_exponential

from kronos_space.deployment import http
from kronos_space.deployment.errors import HubError, HubRefused, quoted
from kronos_space.deployment.hub import HubSpace
from kronos_space.server.logs import message_of

LOG_LINES = 20
STALE_AFTER = 60.0  # seconds after a change during which the Hub may still show an old error stage
HEALTH_TIMEOUT = 10.0
POLL = 0.5  # initial seconds between polls of the stage; then increasing
FAILED = {  # stage -> which log explains it, build or run
    "BUILD_ERROR": True,
    "CONFIG_ERROR": True,
    "NO_APP_FILE": True,
    "RUNTIME_ERROR": False,
}

Say = Callable[[str], None]


def wait_until_up(
    space: HubSpace,
    *,
    key: str,
    timeout: float,
    say: Say,
    old_boot: str | None = None,
    changed: bool = True,
) -> dict[str, Any]:
    """Return /health of the new container as soon as it answers.

    Args:
        old_boot: The id of the old container.
        timeout: Seconds to wait.

    Raises:
        HubError: The build or the start fails, or the time is over. The end of the Space's log is
            printed before.
    """
    watch = _Watch(space, key, say, old_boot, changed)
    pause = wait_exponential(multiplier=POLL, exp_base=1.3, max=10.0)
    attempts = Retrying(
        retry=retry_if_result(lambda health: health is None),
        wait=lambda state: min(pause(state), max(0.0, timeout - watch.waited)),
        stop=lambda _: watch.waited >= timeout,
        retry_error_callback=lambda _: None,
    )
    health: dict[str, Any] | None = attempts(watch.look)
    if health is None:
        raise HubError(
            f"{space.repo}: not up within {timeout:g} s: stage {watch.stage or 'unknown'}"
            f"{watch.trouble}; the Hub may still be building it; run this again to continue waiting"
        )
    return health


@dataclass
class _Watch:
    """The state of a Space while a deployment waits for its new container."""

    space: HubSpace
    key: str
    say: Say
    old_boot: str | None
    changed: bool
    stage: str = ""
    stages: int = 0  # seen so far
    trouble: str = ""  # error of the newest look
    started: float = field(default_factory=time.monotonic)

    @property
    def waited(self) -> float:
        return time.monotonic() - self.started

    def look(self) -> dict[str, Any] | None:
        """Return /health of the new container, or None without an answer.

        Raises:
            HubError: The container failed, or the Hub refuses to answer.
        """
        try:
            return self._new_health()
        except httpx2.HTTPError as error:
            self.trouble = f"; /health: {error}"
        except (HubRefused, _Failed):
            raise
        except HubError as error:  # it may be available again before the deadline
            self.trouble = f"; {error}"
        return None

    def _new_health(self) -> dict[str, Any] | None:
        waited = self.waited
        stage, info = self.space.stage(), self.space.info()
        if stage != self.stage:
            self.stage = stage
            self.stages += 1
            self.say(f"{stage} after {waited:.0f} s")
        fresh = not self.changed or self.stages > 1 or waited > STALE_AFTER
        if stage in FAILED and fresh:
            raise _failure(self.space, stage, self.say)
        if stage == "RUNNING" and info is not None:
            health = health_of(info, key=self.key)
            if health.get("status") == "ok" and health.get("boot_id") != self.old_boot:
                return health
            self.trouble = "; the old container still answers"
        return None


def address(info: SpaceInfo) -> str:
    """Return the URL of the Space."""
    return info.host or f"https://{info.subdomain}.hf.space"


class _Failed(HubError):
    """The Space has failed; waiting does not help."""


def _failure(space: HubSpace, stage: str, say: Say) -> _Failed:
    lines = space.log_tail(LOG_LINES, build=FAILED[stage])
    for line in lines:
        say(f"| {quoted(line)}")
    last = next((line for line in reversed(lines) if line.strip()), "its log is not available")
    return _Failed(f"{space.repo}: {stage}: {quoted(message_of(last.strip()))}")


def health_of(info: SpaceInfo, *, key: str) -> dict[str, Any]:
    """Return the answer of /health. Only a private Space gets the token; the Hub requires it."""
    url = httpx2.URL(f"{address(info).rstrip('/')}/health")
    trusted = url.scheme == "https" and url.host.endswith(".hf.space")
    headers = {"Authorization": f"Bearer {key}"} if info.private and trusted else {}
    with http.client() as client:
        answer = http.within(
            HEALTH_TIMEOUT, lambda: client.get(url, headers=headers, follow_redirects=False)
        )
    answer.raise_for_status()
    try:
        health = answer.json()
    except ValueError:
        return {}
    return health if isinstance(health, dict) else {}
