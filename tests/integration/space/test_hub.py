"""A Space on the Hub is woken, awaited and paused through the real huggingface_hub client."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.support.hub import REPO, TOKEN, Hub
from tradingbot.client import KronosClient
from tradingbot.errors import ConfigError, HubError, HubRefused, SpaceUnavailable
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import Stopped, signals_held, stop_on_signals
from tradingbot.settings import PausePolicy, Settings, Timeouts
from tradingbot.space.connect import open_space
from tradingbot.space.hub import HubSpace, is_private_space
from tradingbot.space.hub_calls import ATTEMPTS
from tradingbot.space.lifecycle import running_space
from tradingbot.space.local import free_port

QUICK = Timeouts(hub_backoff=0.05)
# Time-outs for a hanging Hub, long enough for a slow machine.
IMPATIENT = replace(QUICK, hub_answer=0.5)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as hub:
        yield hub


@pytest.fixture
def client(hub: Hub) -> Iterator[KronosClient]:
    with KronosClient(hub.space_url) as client:
        yield client


def space_of(hub: Hub, timeouts: Timeouts = QUICK) -> HubSpace:
    return HubSpace(REPO, TOKEN, endpoint=hub.url, timeouts=timeouts)


def test_a_paused_space_is_woken_for_the_block_and_paused_after_it(
    hub: Hub, client: KronosClient
) -> None:
    messages: list[str] = []
    with running_space(space_of(hub), client, timeout=20, say=messages.append) as health:
        assert hub.running
        assert health["boot_id"] == hub.boot_id()
    assert (hub.running, hub.stage) == (False, "PAUSED")
    assert hub.actions()[-2:] == ["pause", "runtime"], "the pause is verified"
    assert messages[0] == f"Space {REPO} (PAUSED): restarting"
    assert messages[-1] == f"Space {REPO}: paused"


def test_the_old_container_is_never_mistaken_for_the_new_one(
    hub: Hub, client: KronosClient
) -> None:
    hub.start_now()
    old = hub.boot_id()
    with running_space(space_of(hub), client, timeout=20) as health:
        assert health["boot_id"] == hub.boot_id() != old
        assert hub.starts == 2


def test_an_error_in_the_block_pauses_the_space_and_is_what_the_caller_sees(
    hub: Hub, client: KronosClient
) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        running_space(space_of(hub), client, timeout=20),
    ):
        _ = 1 / 0
    assert not hub.running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_pauses_the_space_and_a_second_one_does_not_cut_that_short(
    hub: Hub, client: KronosClient, number: signal.Signals
) -> None:
    with pytest.raises(Stopped) as stopped, stop_on_signals():  # noqa: SIM117, PT012
        with running_space(space_of(hub), client, timeout=20):
            hub.happens = _kill_at("pause", number)
            os.kill(os.getpid(), number)
            time.sleep(5)
    assert stopped.value.exit_code == 128 + number
    assert not hub.running


def test_a_signal_while_the_space_is_being_paused_waits_for_the_end(
    hub: Hub, client: KronosClient
) -> None:
    with pytest.raises(Stopped), stop_on_signals():  # noqa: SIM117
        with running_space(space_of(hub), client, timeout=20):
            hub.happens = _kill_at("pause", signal.SIGTERM)
    assert not hub.running


def test_a_signal_ends_the_retries_of_a_pause_within_the_time_that_kubernetes_allows(
    hub: Hub,
) -> None:
    kill = _kill_at("pause", signal.SIGTERM)
    hub.happens = lambda event: kill(event) or 500
    space = space_of(hub, Timeouts(hub_backoff=60, hub_pause=600, hub_pause_after_signal=0.2))
    began = time.monotonic()
    with (
        pytest.raises(Stopped),
        stop_on_signals(),
        signals_held(),
        pytest.raises(HubError, match="in 2 attempts"),
    ):
        space.pause()
    # without the deadline, the second attempt would start after a minute
    assert time.monotonic() - began < 30


def _kill_at(action: str, number: int) -> Callable[[str], None]:
    """Send a signal when the Hub receives this call, before it answers."""

    def happens(event: str) -> None:
        if event == action:
            os.kill(os.getpid(), number)

    return happens


def test_a_signal_does_not_hide_that_the_pause_failed(
    hub: Hub, client: KronosClient, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Stopped), stop_on_signals():  # noqa: SIM117, PT012
        with running_space(space_of(hub), client, timeout=20):
            hub.faults["pause"] += [500] * (ATTEMPTS - 1)
            kill = _kill_at("pause", signal.SIGTERM)  # at the last attempt
            hub.happens = lambda event: kill(event) or (500 if event == "pause" else None)
    assert "THE SPACE MAY STILL BE RUNNING" in caplog.text


@pytest.mark.parametrize(
    ("policy", "ran_before", "runs_after"),
    [
        ("always", True, False),
        ("if-woken", True, True),
        ("if-woken", False, False),
        ("never", False, True),
    ],
)
def test_the_pause_policy_is_kept(
    hub: Hub, client: KronosClient, policy: PausePolicy, ran_before: bool, runs_after: bool
) -> None:
    if ran_before:
        hub.start_now()
    with running_space(space_of(hub), client, timeout=20, pause=policy):
        pass
    assert hub.running is runs_after


@pytest.mark.parametrize("action", ["runtime", "restart", "pause"])
@pytest.mark.parametrize("fault", [500, 429, "hang", "garbage"])
def test_transient_failures_are_retried(
    hub: Hub, client: KronosClient, action: str, fault: int | str
) -> None:
    hub.faults[action].append(fault)
    with running_space(space_of(hub, IMPATIENT), client, timeout=20):
        assert hub.running
    assert not hub.running
    assert not hub.faults[action], "the fault has fired"


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "HF_TOKEN is not valid"),
        (403, "needs write access"),
        (404, "check HF_SPACE_REPO"),
    ],
)
def test_a_refusal_is_not_retried_and_starts_nothing(
    hub: Hub, client: KronosClient, status: int, says: str
) -> None:
    hub.faults["restart"].append(status)
    with pytest.raises(HubRefused, match=says), running_space(space_of(hub), client, timeout=20):
        pass
    assert hub.actions() == ["runtime", "restart"]
    assert hub.starts == 0


def test_a_restart_that_failed_may_have_started_the_space_so_it_is_paused(
    hub: Hub, client: KronosClient
) -> None:
    hub.faults["restart"] += ["late"] * ATTEMPTS
    with (
        pytest.raises(HubError, match=r"could not restart .* in 4 attempts: it answered 504"),
        running_space(space_of(hub), client, timeout=20),
    ):
        pass
    assert hub.stage == "PAUSED"
    assert not hub.running


@pytest.mark.parametrize("stage", ["BUILD_ERROR", "RUNTIME_ERROR", "CONFIG_ERROR", "NO_APP_FILE"])
def test_a_failed_start_is_reported_at_once_with_the_end_of_the_log(
    hub: Hub, client: KronosClient, stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    hub.ends_as = stage
    began = time.monotonic()
    with (
        pytest.raises(HubError, match=f"{stage}; MemoryError: the model is too large"),
        running_space(space_of(hub), client, timeout=120),
    ):
        pass
    assert time.monotonic() - began < Timeouts().hub_stale_stage
    assert "Traceback (most recent call last):" in caplog.text
    assert hub.stage == "PAUSED"


def test_an_error_stage_from_before_the_restart_is_ignored(hub: Hub, client: KronosClient) -> None:
    hub.stage = "RUNTIME_ERROR"
    with running_space(space_of(hub), client, timeout=20):
        assert hub.running


def test_a_space_that_never_starts_is_given_up_at_the_deadline_and_paused(
    hub: Hub, client: KronosClient
) -> None:
    hub.ends_as = "SOMETHING_NEW"  # an unknown stage counts as "not ready"
    with (
        pytest.raises(HubError, match=r"not up within 1 s \(KRONOS_WAKE_TIMEOUT\).*SOMETHING_NEW"),
        running_space(space_of(hub), client, timeout=1),
    ):
        pass
    assert hub.stage == "PAUSED"


def test_a_pause_that_fails_is_an_error_and_is_reported_loudly(
    hub: Hub, client: KronosClient, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        pytest.raises(HubError, match="could not pause"),
        running_space(space_of(hub), client, timeout=20),
    ):
        hub.faults["pause"] += [500] * ATTEMPTS
    assert "THE SPACE MAY STILL BE RUNNING" in caplog.text
    assert REPO in caplog.text


def test_the_token_goes_to_the_hub_only_and_is_never_logged(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.faults["runtime"] += [500, 429]
    with (
        caplog.at_level(logging.DEBUG),
        KronosClient(hub.space_url) as client,
        running_space(space_of(hub), client, timeout=20),
    ):
        pass
    assert hub.tokens == {None}
    assert TOKEN not in caplog.text


OWN_HOST = "someone-kronos.hf.space"


@pytest.fixture
def hub_of_the_client(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Connect HubSpaces without an endpoint to the test Hub."""
    original = HubSpace.__init__

    def init(self: HubSpace, repo: str, token: str, *, timeouts: Timeouts | None = None) -> None:
        original(self, repo, token, endpoint=hub.url, timeouts=Timeouts(hub_backoff=0.01))

    monkeypatch.setattr(HubSpace, "__init__", init)
    return hub


def test_only_your_private_space_under_hf_space_gets_the_token(
    hub_of_the_client: Hub,
) -> None:
    assert not is_private_space(REPO, OWN_HOST, token=TOKEN), "it is public"
    hub_of_the_client.private = True
    assert is_private_space(REPO, OWN_HOST, token=TOKEN)
    assert not is_private_space(REPO, "stranger.hf.space", token=TOKEN)
    assert not is_private_space(REPO, OWN_HOST, token="wrong")


def test_a_private_space_gets_the_token_after_refusing_a_request_without_one(
    hub_of_the_client: Hub,
) -> None:
    hub = hub_of_the_client
    hub.start_now()
    hub.private = True
    settings = Settings(hf_token=TOKEN, hf_space_repo=REPO)
    session = requests.Session()
    session.mount("https://", _RedirectingAdapter(hub.space_url))
    with KronosClient("https://stranger.hf.space", http=session, settings=settings) as client:
        assert not client.is_healthy()
    assert hub.tokens == {None}
    with KronosClient(f"https://{OWN_HOST}", http=session, settings=settings) as client:
        assert client.is_healthy()
    assert hub.tokens == {None, f"Bearer {TOKEN}"}
    session.close()


def test_describing_a_space_on_a_hanging_hub_times_out(hub: Hub) -> None:
    hub.faults["info"] += ["hang"] * ATTEMPTS
    with pytest.raises(HubError, match=r"could not describe .* ReadTimeout"):
        space_of(hub, IMPATIENT).info()


class _RedirectingAdapter(HTTPAdapter):
    """Redirect requests for any host to one address."""

    def __init__(self, address: str) -> None:
        super().__init__()
        self._address = address

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        request.url = self._address + request.path_url
        return super().send(request, **options)


def test_importing_the_module_does_not_import_the_client_of_the_hub(tmp_path: Path) -> None:
    code = "import sys, tradingbot.space.hub; print('huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("stage", ["PAUSED", "STOPPED", "BUILD_ERROR"])
def test_without_a_token_a_space_that_cannot_start_is_reported_immediately(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    hub.stage = stage
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    settings = Settings(space_url=hub.space_url, hf_space_repo=REPO, timeouts=QUICK)
    with (
        pytest.raises(ConfigError, match=f"^HF_TOKEN is not set, and Space {REPO} is {stage}: "),
        ProgressReporter() as reporter,
        open_space(settings, local=False, reporter=reporter),
    ):
        pass
    assert (
        "HF_TOKEN is not set, so the Space is neither woken nor paused" in capsys.readouterr().err
    )
    assert hub.actions()[-1] == "runtime"
    assert "restart" not in hub.actions()


@pytest.mark.parametrize("state", ["runs", "sleeps", "cannot be asked"])
def test_without_a_token_a_starting_space_is_waited_for(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    away = state == "cannot be asked"
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free_port()}" if away else hub.url)
    if state == "runs":
        hub.start_now()
    elif state == "sleeps":
        hub.stage = "SLEEPING"
    settings = Settings(
        space_url=hub.space_url, hf_space_repo=REPO, wake_timeout=0.2, timeouts=QUICK
    )
    with (
        nullcontext() if hub.running else pytest.raises(SpaceUnavailable, match=r"within 0\.2 s"),
        ProgressReporter() as reporter,
        open_space(settings, local=False, reporter=reporter) as client,
    ):
        assert client.is_healthy()
