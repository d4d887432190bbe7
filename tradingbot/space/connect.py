"""A client of a Space that is up: of this machine, of the Hub, or one that runs anyway."""

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tradingbot.errors import ConfigError
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tradingbot.client import KronosClient
    from tradingbot.runtime.locking import Lock
    from tradingbot.space.lifecycle import WakeLog


def check_space_is_known(settings: Settings, *, local: bool) -> None:
    """ConfigError unless `open_space` will know where the Space is."""
    if not local and settings.space_url is None:
        raise ConfigError(
            "KRONOS_SPACE_URL is not set: give the Space's address (https://owner-space.hf.space), "
            "or add --local to run one on this machine"
        )


@contextmanager
def open_space(
    settings: Settings,
    *,
    local: bool,
    narrator: ProgressReporter,
    model: str | None = None,
    lock: "Lock | None" = None,
    diary: "WakeLog | None" = None,
) -> "Iterator[KronosClient]":
    """A client of a Space that is up: of this machine, of the Hub, or one that runs anyway.

    `model` is what a Space of this machine loads in place of KRONOS_MODEL.
    `lock` is what runs share one of the Hub by, and `diary` what they remember about it.
    """
    from tradingbot.client import KronosClient

    if local:
        from tradingbot.space.local import local_space

        narrator.step("wake", "Starting a Space on this machine")
        with (
            local_space(
                environ={**os.environ, **({} if model is None else {"KRONOS_MODEL": model})},
                timeout=settings.wake_timeout,
                say=narrator.say,
                timeouts=settings.timeouts,
            ) as url,
            KronosClient(url, settings=settings) as client,
        ):
            yield client
        return
    with KronosClient(settings=settings) as client:
        if settings.hf_token is None:
            narrator.step("wake", f"Waiting for {settings.space_url}")
            client.wait_until_ready(settings.wake_timeout)
            yield client
            return
        from tradingbot.space.hub import HubSpace
        from tradingbot.space.lifecycle import running_space

        narrator.step("wake", f"Waking {settings.hf_space_repo}")
        with running_space(
            HubSpace(settings.hf_space_repo, settings.hf_token, timeouts=settings.timeouts),
            client,
            timeout=settings.wake_timeout,
            pause=settings.pause,
            say=narrator.say,
            lock=lock,
            diary=diary,
        ):
            yield client
