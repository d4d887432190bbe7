"""Connect to a running Space: on this machine, on the Hub, or elsewhere."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from tradingbot.environment import environment
from tradingbot.errors import ConfigError, KronosError
from tradingbot.runtime.lock_interface import Lock
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import Settings, check_recipient, which_space
from tradingbot.settings.models import AskedModel
from tradingbot.space.address import SpaceAddress
from tradingbot.space.client import SpaceClient
from tradingbot.space.hub import FAILED, STILL, HubSpace
from tradingbot.space.lifecycle import running_space
from tradingbot.space.local import local_space
from tradingbot.space.orphaned_space import OrphanedSpace, WakeLog, warn_loudly
from tradingbot.space.served_models import served_models
from tradingbot.space_names import subdomain_at

logger = logging.getLogger(__name__)


def check_space_is_known(settings: Settings, *, local: bool) -> None:
    """Raise ConfigError unless `open_space` can locate the Space."""
    if local:
        return
    if settings.space_url is None:
        raise ConfigError(
            "KRONOS_SPACE_URL is not set: give the Space's address (https://owner-space.hf.space), "
            "or add --local to run one on this machine"
        )
    check_recipient(settings, "KRONOS_API_KEY", "HF_TOKEN")
    check_hub_knows(settings)


def check_hub_knows(settings: Settings) -> None:
    """Raise ConfigError if HF_TOKEN is set for a Space on the Hub whose name is unknown."""
    hosted = settings.space_url is not None and subdomain_at(settings.space_url) is not None
    if settings.hf_token is not None and not settings.hf_space_repo and hosted:
        raise ConfigError(
            f"HF_SPACE_REPO is not set: {settings.space_url} may be the address of several Spaces; "
            "name yours (owner/space), so that HF_TOKEN can wake it"
        )


@contextmanager
def open_space(
    settings: Settings,
    *,
    local: bool,
    reporter: ProgressReporter,
    model: str | None = None,
    lock: Lock | None = None,
    wake_log: WakeLog | None = None,
) -> Iterator[SpaceClient]:
    """Yield a client of a running Space: on this machine, on the Hub, or elsewhere.

    Args:
        settings: The Space, its key and the time-out for waking it.
        local: Start a Space on this machine, and stop it at the end.
        reporter: Shows the step.
        model: The model for a local Space to load instead of KRONOS_MODEL. Another Space must have
            it, or ConfigError is raised.
        lock: Lock with which runs share a Space on the Hub.
        wake_log: Record of which run woke the Space.
    """
    if local:
        reporter.step("wake", "Starting a Space on this machine")
        on_this_space = [asked.name for asked in settings.models if not asked.is_elsewhere]
        named = {"KRONOS_MODELS": ",".join(on_this_space)}
        if model is not None:
            named = {"KRONOS_MODEL": model, "KRONOS_MODELS": ""}
        environ = {**environment(), **named}
        with (
            local_space(
                environ=environ,
                timeout=settings.wake_timeout,
                say=reporter.say,
                timeouts=settings.timeouts,
            ) as url,
            SpaceClient(SpaceAddress.of(replace(settings, space_url=url))) as client,
        ):
            yield client
        return
    with SpaceClient(SpaceAddress.of(settings)) as client:
        if settings.hf_token is None or not settings.hf_space_repo:
            client.check()
            reporter.step("wake", f"Waiting for {settings.space_in_words}")
            if settings.hf_token is not None:
                reporter.say("HF_SPACE_REPO is not set, so the Space is neither woken nor paused")
            elif settings.space_is_named or subdomain_at(client.url) is not None:
                reporter.say("HF_TOKEN is not set, so the Space is neither woken nor paused")
                _check_not_paused(settings, client)
            client.wait_until_ready(settings.wake_timeout)
            _check_model(client, model)
            yield client
            return
        reporter.step("wake", f"Waking {settings.space_in_words}")
        with running_space(
            _hub_of(settings),
            client,
            check=client.check,  # before waking a Space that cannot be used
            timeout=settings.wake_timeout,
            pause=settings.pause,
            say=reporter.say,
            lock=lock,
            wake_log=wake_log,
        ):
            _check_model(client, model)
            yield client


def _check_not_paused(settings: Settings, client: SpaceClient) -> None:
    """Raise ConfigError if the Space is paused: without a token it cannot be woken."""
    if client.is_healthy() or not settings.hf_space_repo:
        return
    timeouts = settings.timeouts
    try:
        hub = HubSpace(settings.hf_space_repo, None, timeouts=timeouts)
        stage = hub.until(time.monotonic() + timeouts.hub_answer).stage()
    except KronosError as error:  # it is private, or the Hub is unreachable
        logger.debug("the stage of %s is not known: %s", settings.hf_space_repo, error)
        return
    if stage in (*STILL, *FAILED) and stage != "SLEEPING":  # a sleeping Space wakes at a request
        raise ConfigError(
            f"HF_TOKEN is not set, and Space {settings.hf_space_repo} is {stage}: only with a "
            "write token of its owner can it be restarted; set HF_TOKEN, or add --local to run "
            "one on this machine"
        )


def _check_model(client: SpaceClient, model: str | None) -> None:
    if model is None:
        return
    names = served_models(client.health())
    if model not in names:
        raise ConfigError(
            f"--model={model!r}: the Space at {client.url} does not serve this model; it serves "
            f"{', '.join(names)}. --local starts a Space with the model that you want"
        )


def settings_of_model(settings: Settings, asked: AskedModel) -> Settings:
    """Return the settings with the Space of a model that another Space serves."""
    url, repo = which_space(asked.space_url, asked.space_repo or None)
    return replace(settings, space_url=url, hf_space_repo=repo, space_is_named=True)


def pause_orphaned_space(
    settings: Settings,
    *,
    reporter: ProgressReporter,
    lock: Lock,
    wake_log: WakeLog,
    wait_for_lock: bool = True,
) -> bool:
    """Pause the Space on the Hub if it runs although no run uses it, as after a killed run.

    Return False, and log an error, if it may still be running. With some settings, runs neither
    wake nor pause the Space. The Hub is not asked about such a Space.
    """
    named = settings.hf_space_repo and not settings.uses_default_space
    if settings.hf_token is None or not named:
        return True
    known = settings.space_url is not None
    with SpaceClient(SpaceAddress.of(settings)) if known else nullcontext() as client:
        try:
            hub = _hub_of(settings)
        except ConfigError:
            return settings.pause == "never"
        orphaned = OrphanedSpace(
            hub, client, pause=settings.pause, lock=lock, wake_log=wake_log, say=reporter.say
        )
        return orphaned.pause_if_unused(wait_for_lock=wait_for_lock)


def _hub_of(settings: Settings) -> HubSpace:
    """Return the Space on the Hub. If it cannot be reached, log a warning and raise ConfigError."""
    assert settings.hf_token is not None
    try:
        return HubSpace(settings.hf_space_repo, settings.hf_token, timeouts=settings.timeouts)
    except ConfigError as error:
        if settings.pause != "never":
            warn_loudly(settings.hf_space_repo, error)
        raise
