"""Answers of the Hub are limited in time and size, and its error messages are shown."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, repeat

import huggingface_hub
import pytest

from tests.support.hostile import (
    OPEN,
    QUICK,
    RUNTIME,
    SLOW,
    HostileServer,
    http,
    transports,
    try_hub,
)
from tests.support.hub_api import REPO, TOKEN
from tests.support.space_server import until
from tradingbot.errors import ConfigError, HubError, HubRefused
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.settings import Settings
from tradingbot.space.connect import open_space
from tradingbot.space.hub import LOG_LINES, HubSpace
from tradingbot.space.hub_calls import ATTEMPTS

GOOD = json.dumps(RUNTIME).encode()
SLOW_ONES = [name for name in transports(GOOD, "") if name.startswith(SLOW)]
ONE_CALL = QUICK.hub_connect + QUICK.hub_answer


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer() as server:
        yield server


@pytest.fixture
def space(server: HostileServer) -> HubSpace:
    return HubSpace(REPO, TOKEN, endpoint=server.url, timeouts=QUICK)


def answers(server: HostileServer, body: bytes, status: str = "200 OK", *headers: str) -> None:
    server.answer = lambda: iter([http(body, status, *headers)])


def test_hostile_answers_raise_only_one_line_errors() -> None:
    outcomes, faults = try_hub(40, seed=20, slow=False)
    assert faults == []
    assert sum(outcomes.values()) == 40


@pytest.mark.parametrize("name", SLOW_ONES)
def test_a_pause_with_a_dripping_answer_times_out_and_leaves_no_thread(
    server: HostileServer, space: HubSpace, name: str
) -> None:
    server.answer = transports(GOOD, "")[name]
    before = set(threading.enumerate())
    with pytest.raises(HubError, match="in 1 attempt: "):
        space.until(time.monotonic()).pause()
    until(lambda: not [t for t in threading.enumerate() if "(run)" in t.name and t not in before])


def test_the_check_after_a_pause_shares_the_time_limit_of_the_pause(
    server: HostileServer, space: HubSpace
) -> None:
    server.answer = lambda: iter([5.0])
    # a last call that starts in time would have ended by then
    late = space.until(time.monotonic() - ONE_CALL)
    began = time.monotonic()
    with pytest.raises(HubError, match="it did not answer within"):
        late.stage()
    assert time.monotonic() - began < 5, "without waiting for an answer"


@pytest.mark.parametrize("name", ["endless body", "endless chunks", "endless error", "gzip bomb"])
def test_an_endless_answer_is_cut_off(server: HostileServer, space: HubSpace, name: str) -> None:
    server.answer = transports(GOOD, "")[name]
    with pytest.raises(HubError, match=r"its answer is (more than 1000000 bytes|compressed)"):
        space.stage()
    assert server.sent < ATTEMPTS * 20_000_000, "what the machine's buffers hold, and no more"


@pytest.mark.parametrize("event", [b"data: ", b'data: {"data": "x", "timestamp": ""}\n\n'])
def test_the_lines_read_from_an_endless_log_are_kept(server: HostileServer, event: bytes) -> None:
    head = OPEN.replace(b"application/json", b"text/event-stream") + b"\r\n"
    server.answer = lambda: chain([head], repeat(event * 1000))
    patient = replace(QUICK, hub_answer=0.5)
    log = HubSpace(REPO, TOKEN, endpoint=server.url, timeouts=patient).log_tail(build=True)
    assert log == ("x\n" * LOG_LINES if b"{" in event else "")


def test_control_characters_of_a_log_are_removed(server: HostileServer, space: HubSpace) -> None:
    lines = ["\x1b[31mred\n", "  indented\x9b", "x" * 50_000, 5]
    events = "".join(f"data: {json.dumps({'data': line})}\n\n" for line in lines)
    answers(server, events.encode(), "200 OK", "Content-Type: text/event-stream")
    first, second, third, fourth = space.log_tail(build=False).splitlines()
    assert (first, second, fourth) == (" [31mred", "  indented ", "5")
    assert third == "x" * 8000


@pytest.mark.parametrize("stage", ["", "running", "A B", "\x1b[31m", "X" * 99, 5, None, {}])
def test_an_invalid_stage_is_rejected(
    server: HostileServer, space: HubSpace, stage: object
) -> None:
    answers(server, json.dumps(RUNTIME | {"stage": stage}).encode())
    with pytest.raises(HubError, match="in 4 attempts: its answer makes no sense"):
        space.stage()


def test_a_long_retry_after_of_the_hub_is_capped(server: HostileServer, space: HubSpace) -> None:
    answers(server, b"", "429 Wait", f"Retry-After: {'9' * 400}")
    with pytest.raises(HubError, match="it answered 429"):
        space.restart()
    assert len([head for head in server.heads if b"restart" in head]) == ATTEMPTS


# redirects ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_is_not_followed(
    server: HostileServer, space: HubSpace, status: int
) -> None:
    with HostileServer() as elsewhere:
        answers(server, b"", f"{status} Go", f"Location: {elsewhere.url}/api")
        with pytest.raises(HubError, match="a redirect to another host, 127"):
            space.restart()
        assert elsewhere.heads == []


def test_a_renamed_space_is_found_where_the_hub_says(
    server: HostileServer, space: HubSpace
) -> None:
    def answer() -> Iterator[bytes | float]:
        old = b"/api/spaces/someone/" in server.heads[-1]
        yield http(b"", "307 Go", "Location: /api/spaces/new/name/runtime") if old else http(GOOD)

    server.answer = answer
    assert space.stage() == "PAUSED"
    assert f"Bearer {TOKEN}".encode() in server.heads[-1]


# error messages of the Hub ------------------------------------------------------------------

QUOTA = "You have exceeded your quota of free Docker Spaces; upgrade to PRO"


@pytest.mark.parametrize(
    ("status", "words", "says", "not_"),
    [
        (401, "Invalid username or password.", "HF_TOKEN is not valid (401): Invalid user", "docs"),
        (402, "Payment required", "it answered 402: Payment required; this is about the", "write"),
        (403, QUOTA, f"it answered 403: {QUOTA}; this is about the account, not HF_TOKEN", "write"),
        (403, QUOTA, "in your cluster (space.enabled) or on this machine (--local)", "write"),
        (403, "You are not the owner", "HF_TOKEN needs write access to this Space. Else", "not H"),
        (403, "", "HF_TOKEN may not do this (403); it needs write access to this Space", "--local"),
        (404, "Repository not found", "(404): Repository not found; check HF_SPACE_REPO", "docs"),
        (409, "The Space is being deleted", "it answered 409: The Space is being deleted", "TOKEN"),
        (503, "Down for maintenance", "it answered 503: Down for maintenance; try again", "TOKEN"),
    ],
)
def test_the_hubs_message_is_shown_and_the_token_mentioned_only_if_relevant(
    server: HostileServer, space: HubSpace, status: int, words: str, says: str, not_: str
) -> None:
    answers(server, json.dumps({"error": words} if words else {}).encode(), f"{status} No")
    with pytest.raises(HubError) as refused:
        space.restart()
    assert says in str(refused.value)
    assert not_ not in str(refused.value)
    assert isinstance(refused.value, HubRefused) == (status in (401, 402, 403, 404))


def test_the_hubs_message_is_shortened_to_one_line(
    server: HostileServer, space: HubSpace, caplog: pytest.LogCaptureFixture
) -> None:
    message = "\x1b[31mno\n\x9b quota\x07 " + "x" * 5000
    header = "X-HF-Warning: topic; \x1b[31mold"
    answers(server, json.dumps({"error": message}).encode(), "403 No", header)
    library = logging.getLogger("huggingface_hub")
    library.addHandler(caplog.handler)
    try:
        with pytest.raises(HubRefused, match=r"it answered 403: \[31mno quota xx") as refused:
            space.restart()
    finally:
        library.removeHandler(caplog.handler)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 900
    assert all(record.getMessage().isprintable() for record in caplog.records)


# settings that cannot be sent ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "endpoint", "says"),
    [
        ({"SSL_CERT_FILE": "/no/such.pem"}, None, "SSL_CERT_FILE or SSL_CERT_DIR names no cert"),
        ({"SSL_CERT_FILE": __file__}, None, "SSL_CERT_FILE or SSL_CERT_DIR names no cert"),
        ({"https_proxy": "socks5://u:pw@h:1"}, None, "Using SOCKS proxy, but the 'socksio' pack"),
        ({"https_proxy": "http://u:pw@[::1"}, None, "HTTPS_PROXY, ALL_PROXY or an HF_"),
        ({"https_proxy": "ftp://u:pw@h"}, None, "HTTPS_PROXY, ALL_PROXY or an HF_"),
        ({}, "hub.example", "HF_ENDPOINT='hub.example': expected an address"),
        ({}, "https://hub\n.example", r"HF_ENDPOINT='https://hub\n.example': expected"),
        ({}, f"https://{'a' * 64}.example", "label "),
        ({}, "https://a..example", "label "),
        ({}, "ftp://hub.example", "HF_ENDPOINT='ftp://hub.example': expected an address"),
    ],
)
def test_an_impossible_hub_address_is_a_settings_error_in_one_line(
    environ: dict[str, str], endpoint: str | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SSL_CERT_FILE", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    huggingface_hub.close_session()  # it was created with another environment
    with pytest.raises(ConfigError) as wrong:
        HubSpace(REPO, TOKEN, endpoint=endpoint, timeouts=QUICK)
    assert says in str(wrong.value)
    assert str(wrong.value).isprintable()
    assert "pw" not in str(wrong.value)


def test_a_token_invalid_in_a_header_is_a_settings_error() -> None:
    with pytest.raises(ConfigError, match="HF_TOKEN has characters that no HTTP header") as wrong:
        HubSpace(REPO, "hf_\nsecret", timeouts=QUICK)
    assert "secret" not in str(wrong.value)


def test_a_space_that_cannot_be_called_is_not_woken(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such.pem")
    settings = Settings(
        space_url="https://space.example", hf_token=TOKEN, hf_space_repo=REPO, timeouts=QUICK
    )
    with (
        pytest.raises(ConfigError, match="REQUESTS_CA_BUNDLE"),
        open_space(settings, local=False, reporter=ProgressReporter()),
    ):
        pass
    assert not [head for head in server.heads if b"/restart" in head]


def test_other_hub_clients_in_this_process_keep_their_limits(
    server: HostileServer, space: HubSpace
) -> None:
    answers(server, b"x" * 2_000_000)
    response = huggingface_hub.get_session().get(f"{server.url}/a-model")
    assert len(response.content) == 2_000_000
