"""The actions of `kronosbot space`, and the lines that they print."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tradingbot.errors import ConfigError, KronosError
from tradingbot.formatting import duration
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import Stopped
from tradingbot.runtime.streams import SafeStream
from tradingbot.settings import Settings, check_recipient
from tradingbot.space.address import SpaceAddress
from tradingbot.space.client import SpaceClient
from tradingbot.space.hub import FAILED, RUNS, STILL, HubSpace
from tradingbot.space.lifecycle import boot_id, wait_for_new_container


@contextmanager
def or_else(hint: str) -> Iterator[None]:
    """Add a note about the state left behind to a failure or signal in this block."""
    try:
        yield
    except (KronosError, Stopped) as error:
        error.add_note(hint)
        raise


def with_token(settings: Settings) -> Settings:
    """Return `settings` if they have a token and a Space on the Hub.

    Raises:
        ConfigError: The token or the Space is missing.
    """
    if settings.hf_token is None:
        raise ConfigError(
            f"HF_TOKEN is not set: only with a write token of its owner can Space "
            f"{settings.space_name} be woken or paused (huggingface.co/settings/tokens)"
        )
    check_recipient(settings, "HF_TOKEN")
    if not settings.hf_space_repo:
        raise ConfigError(
            f"HF_SPACE_REPO is not set: expected the name (owner/space) of the Space at "
            f"{settings.space_url}"
        )
    return settings


def hub_of(settings: Settings) -> HubSpace:
    """Return the Space on the Hub."""
    assert settings.hf_token is not None
    return HubSpace(settings.hf_space_repo, settings.hf_token, timeouts=settings.timeouts)


def client_of(settings: Settings) -> SpaceClient:
    """Return a client of the Space.

    Raises:
        ConfigError: its address is not set.
    """
    if settings.space_url is None:
        raise ConfigError(
            "KRONOS_SPACE_URL is not set: give the Space's address (https://owner-space.hf.space), "
            "which is requested to find out whether it is up"
        )
    return SpaceClient(SpaceAddress.of(settings))


def health_if_up(hub: HubSpace, client: SpaceClient) -> dict[str, Any] | None:
    """Return the Space's health, or None if it is not running or not healthy."""
    if hub.stage() != "RUNNING":
        return None
    try:
        health = client.health()
    except KronosError:
        return None
    return health if health.get("status") == "ok" else None


def restart(
    hub: HubSpace, client: SpaceClient, timeout: float, reporter: ProgressReporter
) -> dict[str, Any]:
    """Restart the Space, wait for its new container and return its health."""
    stage = hub.stage()
    old_boot = boot_id(client) if stage in RUNS else None
    reporter.step("wake", f"Waking {hub.repo} ({stage})")
    with or_else("the Space may still be starting; stop it with `kronosbot space pause`"):
        hub.restart()
        health = wait_for_new_container(
            hub, client, other_than=old_boot, timeout=timeout, say=reporter.say
        )
    reporter.end()
    return health


def show_health(settings: Settings, stage: str | None) -> bool:
    """Print the Space's health, or why it is unknown. Return whether the state is as expected."""
    if settings.space_url is None:
        show("Health", "KRONOS_SPACE_URL is not set, so the Space is not asked")
        return stage not in FAILED
    if stage in STILL:
        show("Health", f"not asked: it is {stage}; `kronosbot space wake` wakes it")
        return True
    with client_of(settings) as client:
        try:
            show("Health", described(settings, client.health()))
            return True
        except KronosError as error:
            show("Health", f"no response: {error}")
            return False


def described(settings: Settings, health: dict[str, Any]) -> str:
    """Return one line about the container."""
    revision, uptime = health.get("model_revision"), health.get("uptime_s")
    parts = [
        f"{health['status']} at {settings.space_url}: {health['model']}",
        f"revision {str(revision)[:12]}" if revision else "",
        f"up {duration(uptime)}" if uptime is not None else "",
        f"boot {health['boot_id']}",
    ]
    return ", ".join(part for part in parts if part)


def show(name: str, line: str) -> None:
    """Print a name and its line on stdout."""
    out = SafeStream(sys.stdout)
    out.write(f"{name:8} {line}\n")
    out.flush()
