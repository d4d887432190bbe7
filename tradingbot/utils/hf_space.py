"""The Space's life on the Hugging Face Hub: woken for the job, paused on every way out."""

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from tradingbot.utils.errors import HubError, HubRefused, KronosError
from tradingbot.utils.settings import PausePolicy
from tradingbot.utils.signals import signals_held

if TYPE_CHECKING:
    import httpx2

logger = logging.getLogger(__name__)

HUB_TIMEOUT = 20.0  # seconds for one call; huggingface_hub itself has none
ATTEMPTS = 4  # of one call, while it fails for a reason that may pass
STALE_AFTER = 60.0  # seconds after a restart during which an old error stage may still show
PAUSE_VERIFY = 10.0  # seconds for the Hub to show the pause, per attempt
LOG_LINES = 12

# SLEEPING is missing from huggingface_hub's enum, so stages are compared as strings.
RUNS = ("RUNNING", "RUNNING_BUILDING", "RUNNING_APP_STARTING")
FAILED = ("BUILD_ERROR", "RUNTIME_ERROR", "CONFIG_ERROR", "NO_APP_FILE")
STILL = ("PAUSED", "STOPPED", "SLEEPING", "DELETING")


class Health(Protocol):
    """What this module asks of a KronosClient."""

    def health(self) -> dict[str, Any]: ...


@contextmanager
def running_space(
    hub: "HubSpace",
    client: Health,
    *,
    timeout: float = 900.0,
    pause: PausePolicy = "always",
    say: Callable[[str], None] = logger.info,
) -> Iterator[dict[str, Any]]:
    """Restart the Space, hand over its /health once the new container answers, pause it at last.

    The pause happens on every way out, signals included, and is verified; one that fails is
    logged as an error and, unless another error is on its way, raised as HubError. `pause`
    "if-woken" leaves a Space running that ran before, "never" leaves every one.
    HubRefused: the token or the name is wrong, nothing was touched.
    """
    stage = hub.stage()
    old_boot = _boot_id(client) if stage in RUNS else None
    pauses = pause == "always" or (pause == "if-woken" and stage not in RUNS)
    restarted = False
    try:
        say(f"Space {hub.repo} ({stage}): restarting")
        hub.restart()
        restarted = True
        yield _wait_for_new_container(hub, client, old_boot, timeout, say)
    except BaseException as error:
        # A refused restart started nothing; one that timed out may have.
        if pauses and (restarted or not isinstance(error, HubRefused)):
            _pause(hub, say, raises=False)  # the error on its way says more
        raise
    else:
        if pauses:
            _pause(hub, say, raises=True)


def is_private_space(repo: str, host: str, *, token: str) -> bool:
    """True when the Hub says that `repo` is private and served at `host`: it may see the token."""
    try:
        info = HubSpace(repo, token).info()
    except HubError as error:
        logger.debug("cannot tell whether %s is private: %s", repo, error)
        return False
    return bool(info.private) and host == f"{info.subdomain}.hf.space"


class HubSpace:
    """One Space as the Hub's API sees it. The token goes to the Hub and nowhere else.

    Calls have a time-out, and are repeated while the Hub fails for a reason that may pass;
    HubRefused for 401, 403 and 404, HubError for the rest.
    """

    def __init__(
        self, repo: str, token: str, *, endpoint: str | None = None, backoff: float = 1.0
    ) -> None:
        from huggingface_hub import HfApi, set_client_factory

        set_client_factory(_client_with_timeouts)
        self.repo = repo
        self.backoff = backoff  # seconds before the second attempt or look, then more
        self._api = HfApi(endpoint=endpoint, token=token)  # by default HF_ENDPOINT, or the Hub

    def stage(self) -> str:
        runtime = self._call("tell the stage of", lambda: self._api.get_space_runtime(self.repo))
        return str(runtime.stage)

    def restart(self) -> None:
        self._call("restart", lambda: self._api.restart_space(self.repo))

    def pause(self) -> None:
        """Pause it and see that the Hub shows it paused."""
        for attempt in range(ATTEMPTS):
            self._call("pause", lambda: self._api.pause_space(self.repo))
            deadline = time.monotonic() + PAUSE_VERIFY
            while (stage := self.stage()) not in STILL and time.monotonic() < deadline:
                time.sleep(self.backoff)
            if stage in STILL:
                return
            logger.warning("Space %s still shows %s (attempt %d)", self.repo, stage, attempt + 1)
        raise HubError(f"Space {self.repo} was told to pause but still shows {stage}")

    def info(self) -> Any:
        # this one call has a time-out of its own, which is none unless it is given
        return self._call("describe", lambda: self._api.space_info(self.repo, timeout=HUB_TIMEOUT))

    def log_tail(self, *, build: bool) -> str:
        """The newest lines of the build or run log, '' when there is none to be had."""
        import httpx2

        try:
            lines = list(self._api.fetch_space_logs(self.repo, build=build))
        except (httpx2.HTTPError, OSError, ValueError) as error:
            logger.debug("no log of %s: %s", self.repo, error)
            return ""
        return "".join(line if line.endswith("\n") else line + "\n" for line in lines[-LOG_LINES:])

    def _call(self, verb: str, call: Callable[[], Any]) -> Any:
        import httpx2
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        what = f"The Hub could not {verb} Space {self.repo}"
        for attempt in itertools.count():
            try:
                return call()
            except HfHubHTTPError as error:
                status = error.response.status_code
                if status in (401, 403, 404):
                    raise HubRefused(f"{what}: {_refusal(status)}") from error
                if status < 500 and status not in (408, 429):
                    raise HubError(f"{what}: it answered {status}") from error
                cause, asked = f"it answered {status}", error.response.headers.get("Retry-After")
                wait = min(float(asked), 60.0) if asked and asked.isdigit() else 0.0
            except httpx2.HTTPError as error:
                cause, wait = f"{type(error).__name__}: {error}".rstrip(": "), 0.0
            except HFValidationError as error:
                raise HubRefused(f"HF_SPACE_REPO={self.repo!r}: {error}") from error
            except (ValueError, KeyError, TypeError) as error:
                cause, wait = f"its answer makes no sense ({type(error).__name__})", 0.0
            if attempt + 1 == ATTEMPTS:
                raise HubError(f"{what} in {ATTEMPTS} attempts: {cause}; try again later")
            time.sleep(max(wait, self.backoff * 2**attempt))


def _client_with_timeouts() -> "httpx2.Client":
    import httpx2

    return httpx2.Client(timeout=HUB_TIMEOUT, follow_redirects=True)


def _refusal(status: int) -> str:
    if status == 401:
        return "HF_TOKEN is not valid (401); make a new write token in the Hub's settings"
    if status == 403:
        return "HF_TOKEN may not do this (403); it needs write access to this Space"
    return "there is no such Space, or HF_TOKEN cannot see it (404); check HF_SPACE_REPO"


def _boot_id(client: Health) -> str | None:
    """The boot_id of the container that answers now, asked thrice: None means there is none."""
    for _ in range(3):
        try:
            return client.health().get("boot_id")
        except KronosError:
            continue
    return None


def _wait_for_new_container(
    hub: HubSpace,
    client: Health,
    old_boot: str | None,
    timeout: float,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Until the stage is RUNNING and /health answers with another boot_id than `old_boot`."""
    started = time.monotonic()
    pause, shown, stages = hub.backoff / 2, "", set[str]()
    trouble = ""
    while (waited := time.monotonic() - started) < timeout:
        try:
            stage = hub.stage()
        except HubRefused:
            raise
        except HubError as error:  # it may be back before the deadline
            trouble = str(error)
        else:
            if stage != shown:
                shown = stage
                say(f"Space {hub.repo}: {stage} after {waited:.0f} s")
            stages.add(stage)
            # Just after a restart the stage of the last failure may still be shown.
            if stage in FAILED and (len(stages) > 1 or waited > STALE_AFTER):
                raise _failed(hub, stage)
            if stage == "RUNNING":
                try:
                    health = client.health()
                    if health.get("status") == "ok" and health.get("boot_id") != old_boot:
                        return health
                    trouble = "the old container still answers"
                except KronosError as error:
                    trouble = str(error)
        time.sleep(min(pause, max(0.0, timeout - (time.monotonic() - started))))
        pause = min(pause * 1.5, 5.0)
    raise HubError(
        f"Space {hub.repo} was not up within {timeout:g} s (KRONOS_WAKE_TIMEOUT): "
        f"stage {shown or 'unknown'}{'; ' + trouble if trouble else ''}"
    )


def _failed(hub: HubSpace, stage: str) -> HubError:
    log = hub.log_tail(build=stage in ("BUILD_ERROR", "CONFIG_ERROR", "NO_APP_FILE"))
    for line in log.splitlines():
        logger.error("Space %s | %s", hub.repo, line)
    last = log.strip().splitlines()[-1:] or ["its log is not to be had"]
    return HubError(f"Space {hub.repo} failed to start: {stage}; {last[0]}")


def _pause(hub: HubSpace, say: Callable[[str], None], *, raises: bool) -> None:
    failure: HubError | None = None
    with signals_held():  # and the report of a failure must not be cut short either
        try:
            hub.pause()
            say(f"Space {hub.repo}: paused")
        except HubError as error:
            failure = error
            logger.error(
                "THE SPACE MAY STILL BE RUNNING. %s. Pause it by hand in the settings of %s",
                error,
                hub.repo,
            )
    if failure and raises:  # whatever the reason, HubRefused too: the work is done, the Space not
        raise HubError(str(failure)) from failure
