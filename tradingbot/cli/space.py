"""`kronosbot space status|wake|pause`: the Space by hand, when no job does it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from tradingbot.errors import ConfigError, KronosError
from tradingbot.formatting import duration
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import Stopped, stop_on_signals
from tradingbot.runtime.streams import SafeStream
from tradingbot.settings import Settings

if TYPE_CHECKING:
    from tradingbot.client import KronosClient
    from tradingbot.space.hub import HubSpace


space_app = typer.Typer(
    help="""Look at the Space, wake it or pause it by hand.

    HF_SPACE_REPO names it on the Hub, KRONOS_SPACE_URL is its address, and HF_TOKEN a write token
    of its owner. The nightly job does all this by itself; a job that uses the Space just then is
    disturbed.

    Exit codes, of all three: 0 done; 1 the Hub or the Space is out of reach, or the Space has
    failed; 2 a setting is missing or wrong, or the Hub refuses the token; 130 Ctrl-C.
    """,
    rich_markup_mode=None,
    no_args_is_help=True,
)


@space_app.command("status")
def status_command() -> None:
    """Tell the Space's stage, and what it says about itself.

    Without HF_TOKEN only the Space is asked, not the Hub. A Space that sleeps is not asked: that
    would wake it.

    Try it: kronosbot space status
    """
    with _told_in_one_line() as narrator:
        settings = Settings.from_env()
        if settings.hf_token is None and settings.space_url is None:
            raise ConfigError("neither HF_TOKEN nor KRONOS_SPACE_URL is set: whom to ask?")
        stage, log = None, ""
        if settings.hf_token is None:
            narrator.say("HF_TOKEN is not set, so the Hub is not asked for the stage")
        else:
            from tradingbot.space.hub import FAILED

            hub = _hub(settings)
            stage = hub.stage()
            _show("Space", f"{hub.repo}: {stage}")
            if stage in FAILED:
                log = hub.log_tail(build=stage != "RUNTIME_ERROR")
        well = _show_health(settings, stage)
        for line in log.splitlines():
            _show("Log", line)
    raise typer.Exit(0 if well else 1)


@space_app.command()
def wake() -> None:
    """Restart the Space, wait until it answers, and leave it running.

    One that runs and answers already is left alone: to start it anew, pause it first. Waits for
    KRONOS_WAKE_TIMEOUT seconds (900) at most.

    Try it: kronosbot space wake
    """
    with _told_in_one_line() as narrator:
        settings = _with_token(Settings.from_env())
        with _client(settings) as client:
            hub = _hub(settings)
            health = _health_if_up(hub, client)
            if health is not None:
                narrator.say(f"Space {hub.repo} runs already")
            else:
                health = _restart(hub, client, settings.wake_timeout, narrator)
        _show("Space", f"{hub.repo}: RUNNING")
        _show("Health", _described(settings, health))
        _show("Next", "kronosbot space pause: it costs its owner's quota until then")


@space_app.command()
def pause() -> None:
    """Pause the Space, and see that the Hub shows it paused.

    Try it: kronosbot space pause
    """
    with _told_in_one_line() as narrator:
        settings = _with_token(Settings.from_env())
        hub = _hub(settings)
        narrator.step("pause", f"Pausing {hub.repo}")
        with _or_else("the Space may still be running: `kronosbot space status` tells"):
            hub.pause()
        narrator.end()
        _show("Space", f"{hub.repo}: {hub.stage()}")


# parts of the three -----------------------------------------------------------------------


@contextmanager
def _told_in_one_line() -> Iterator[ProgressReporter]:
    """Signals and failures end the command with one line and the job's exit codes."""
    narrator = ProgressReporter()
    try:
        with narrator, stop_on_signals():
            yield narrator
    except (KronosError, Stopped) as error:
        said = f"Stopped by {error}" if isinstance(error, Stopped) else f"Error: {error}"
        narrator.say("; ".join([said, *getattr(error, "__notes__", [])]))
        raise typer.Exit(error.exit_code) from None


@contextmanager
def _or_else(hint: str) -> Iterator[None]:
    """What a failure or a signal in this block leaves behind."""
    try:
        yield
    except (KronosError, Stopped) as error:
        error.add_note(hint)
        raise


def _with_token(settings: Settings) -> Settings:
    if settings.hf_token is None:
        raise ConfigError(
            f"HF_TOKEN is not set: only with a write token of its owner can Space "
            f"{settings.hf_space_repo} be woken or paused (huggingface.co/settings/tokens)"
        )
    return settings


def _hub(settings: Settings) -> "HubSpace":
    from tradingbot.space.hub import HubSpace

    assert settings.hf_token is not None
    return HubSpace(settings.hf_space_repo, settings.hf_token, timeouts=settings.timeouts)


def _client(settings: Settings) -> "KronosClient":
    from tradingbot.client import KronosClient

    if settings.space_url is None:
        raise ConfigError(
            "KRONOS_SPACE_URL is not set: give the Space's address (https://owner-space.hf.space), "
            "which is asked whether it is up"
        )
    return KronosClient(settings=settings)


def _health_if_up(hub: "HubSpace", client: "KronosClient") -> dict[str, Any] | None:
    if hub.stage() != "RUNNING":
        return None
    try:
        health = client.health()
    except KronosError:
        return None
    return health if health.get("status") == "ok" else None


def _restart(
    hub: "HubSpace", client: "KronosClient", timeout: float, narrator: ProgressReporter
) -> dict[str, Any]:
    from tradingbot.space.hub import RUNS
    from tradingbot.space.lifecycle import boot_id, wait_for_new_container

    stage = hub.stage()
    old_boot = boot_id(client) if stage in RUNS else None
    narrator.step("wake", f"Waking {hub.repo} ({stage})")
    with _or_else("should it still be starting, `kronosbot space pause` puts it to rest"):
        hub.restart()
        health = wait_for_new_container(
            hub, client, other_than=old_boot, timeout=timeout, say=narrator.say
        )
    narrator.end()
    return health


def _show_health(settings: Settings, stage: str | None) -> bool:
    """Print what /health says, or why it is not known; whether that is as it should be."""
    from tradingbot.space.hub import FAILED, STILL

    if settings.space_url is None:
        _show("Health", "KRONOS_SPACE_URL is not set, so the Space is not asked")
        return stage not in FAILED
    if stage in STILL:
        _show("Health", f"not asked: it is {stage}; `kronosbot space wake` wakes it")
        return True
    with _client(settings) as client:
        try:
            _show("Health", _described(settings, client.health()))
            return True
        except KronosError as error:
            _show("Health", f"no answer: {error}")
            return False


def _described(settings: Settings, health: dict[str, Any]) -> str:
    """One line about the container that answers."""
    revision, uptime = health.get("model_revision"), health.get("uptime_s")
    parts = [
        f"{health['status']} at {settings.space_url}: {health['model']}",
        f"revision {str(revision)[:12]}" if revision else "",
        f"up {duration(uptime)}" if uptime is not None else "",
        f"boot {health['boot_id']}",
    ]
    return ", ".join(part for part in parts if part)


def _show(name: str, line: str) -> None:
    out = SafeStream(sys.stdout)
    out.write(f"{name:8} {line}\n")
    out.flush()
