"""`kronosbot space status|wake|pause`: control the Space by hand."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from tradingbot.cli.command import Group
from tradingbot.errors import ConfigError, KronosError
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import Stopped, stop_on_signals
from tradingbot.settings import Settings, check_recipient

space_app = typer.Typer(
    subcommand_metavar="COMMAND [ARGS]",
    cls=Group,
    help="""Show the state of the Space, wake it or pause it by hand.

    HF_SPACE_REPO is its name on the Hub; its address KRONOS_SPACE_URL is derived from it. HF_TOKEN
    is a write token of its owner. The nightly job does all this itself. Do not use these commands
    while a job is using the Space.

    Exit codes, of all three: 0 done; 1 the Hub or the Space is out of reach, or the Space has
    failed; 2 a setting is missing or wrong, or the Hub refuses the token; 130 Ctrl-C.
    """,
    rich_markup_mode=None,
    no_args_is_help=True,
)


@space_app.command("status")
def status_command() -> None:
    """Show the Space's stage and its health.

    Without HF_TOKEN only the Space is queried, not the Hub. A sleeping Space is not queried,
    because that would wake it.

    Try it: kronosbot space status
    """
    from tradingbot.cli.space_control import hub_of, show, show_health
    from tradingbot.space.connect import check_hub_knows
    from tradingbot.space.hub import FAILED

    with _failures_in_one_line() as reporter:
        settings = Settings.from_env()
        if settings.hf_token is None and settings.space_url is None:
            raise ConfigError("neither HF_TOKEN nor KRONOS_SPACE_URL is set: set one of them")
        stage, log = None, ""
        check_recipient(settings, "KRONOS_API_KEY", "HF_TOKEN")
        check_hub_knows(settings)
        if settings.hf_token is None or not settings.hf_space_repo:
            missing = "HF_SPACE_REPO" if settings.hf_token else "HF_TOKEN"
            reporter.say(f"{missing} is not set, so the Hub is not asked for the stage")
        else:
            hub = hub_of(settings)
            stage = hub.stage()
            show("Space", f"{hub.repo}: {stage}")
            if stage in FAILED:
                log = hub.log_tail(build=stage != "RUNTIME_ERROR")
        healthy = show_health(settings, stage)
        for line in log.splitlines():
            show("Log", line)
    raise typer.Exit(0 if healthy else 1)


@space_app.command()
def wake() -> None:
    """Restart the Space, wait until it answers, and leave it running.

    A Space that already runs and answers is not restarted; pause it first. Waits at most
    KRONOS_WAKE_TIMEOUT seconds (900).

    Try it: kronosbot space wake
    """
    from tradingbot.cli.space_control import (
        client_of,
        described,
        health_if_up,
        hub_of,
        restart,
        show,
        with_token,
    )

    with _failures_in_one_line() as reporter:
        settings = with_token(Settings.from_env())
        with client_of(settings) as client:
            hub = hub_of(settings)
            health = health_if_up(hub, client)
            if health is not None:
                reporter.say(f"Space {hub.repo} runs already")
            else:
                health = restart(hub, client, settings.wake_timeout, reporter)
        show("Space", f"{hub.repo}: RUNNING")
        show("Health", described(settings, health))
        show("Next", "kronosbot space pause (until then the Space uses its owner's quota)")


@space_app.command()
def pause() -> None:
    """Pause the Space, and check that the Hub shows it paused.

    Try it: kronosbot space pause
    """
    from tradingbot.cli.space_control import hub_of, or_else, show, with_token

    with _failures_in_one_line() as reporter:
        settings = with_token(Settings.from_env())
        hub = hub_of(settings)
        reporter.step("pause", f"Pausing {hub.repo}")
        with or_else("the Space may still be running: check with `kronosbot space status`"):
            hub.pause()
        reporter.end()
        show("Space", f"{hub.repo}: {hub.stage()}")


@contextmanager
def _failures_in_one_line() -> Iterator[ProgressReporter]:
    """End the command on a signal or failure, with one line and the job's exit codes."""
    reporter = ProgressReporter()
    try:
        with reporter, stop_on_signals():
            yield reporter
    except (KronosError, Stopped) as error:
        message = f"Stopped by {error}" if isinstance(error, Stopped) else f"Error: {error}"
        reporter.say("; ".join([message, *getattr(error, "__notes__", [])]))
        raise typer.Exit(error.exit_code) from None
