"""Answers of the Hub to `kronos-space deploy` are limited in time and size, and shown safely."""

import json
import random
import time
from collections.abc import Callable, Iterator

import pytest

from kronos_space.deployment import http as deployment_http
from kronos_space.deployment import hub
from kronos_space.deployment.errors import HubError, HubRefused
from kronos_space.deployment.hub import HubSpace
from tests.support.hostile import (
    OPEN,
    RUNTIME,
    HostileServer,
    attack_of_a_hub,
    endless,
    http,
    transports,
)
from tests.support.hub_api import REPO, TOKEN

GOOD = json.dumps(RUNTIME).encode()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment_http, "CALL_TIMEOUT", 0.3)
    monkeypatch.setattr(hub, "BACKOFF", 0.001)
    monkeypatch.setattr(time, "sleep", lambda _: None)


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer() as server:
        yield server


def space(server: HostileServer) -> HubSpace:
    return HubSpace(REPO, TOKEN, endpoint=server.url)


def said_by(ask: Callable[[], object]) -> str | None:
    """Return the text of the error, checked for harmful characters; None without an error."""
    try:
        ask()
    except HubError as error:
        message = str(error)
        return "fine" if message.isprintable() and len(message) < 1200 else message
    return None


@pytest.mark.parametrize("name", [name for name in transports(GOOD, "") if name != "endless 100"])
def test_an_invalid_answer_ends_in_one_line(server: HostileServer, name: str) -> None:
    with HostileServer() as elsewhere:
        server.answer = transports(GOOD, elsewhere.url)[name]
        assert said_by(space(server).stage) in (None, "fine")
        assert not elsewhere.heads
    assert server.sent < 60_000_000, "what the machine's buffers hold, and no more"


@pytest.mark.slow
def test_hostile_answers_raise_only_one_line_errors(server: HostileServer) -> None:
    rng = random.Random(5)
    for _ in range(40):
        attack = attack_of_a_hub(rng, server.url, slow=False)
        server.answer = attack.answer
        hub_space = space(server)
        for ask in (
            hub_space.stage,
            hub_space.info,
            hub_space.variables,
            hub_space.secrets,
            hub_space.check_token,
        ):
            assert said_by(ask) in (None, "fine"), attack.name


def test_a_secret_is_sent_to_no_other_host(server: HostileServer) -> None:
    with HostileServer() as elsewhere:
        address = elsewhere.url.replace("127.0.0.1", "localhost")
        server.answer = lambda: iter([http(b"", "307 Go", f"Location: {address}/x")])
        with pytest.raises(HubError, match="a redirect to another host"):
            space(server).set_secret("KEY", "s3cret", description="")
        assert not elsewhere.heads


def test_an_endless_log_is_read_for_a_limited_time(server: HostileServer) -> None:
    head = OPEN.replace(b"application/json", b"text/event-stream") + b"\r\n"
    event = b'data: {"data": "x", "timestamp": ""}\n\n'
    server.answer = lambda: endless(head, event * 1000)
    assert space(server).log_tail(5, build=True) == ["x"] * 5


@pytest.mark.parametrize(
    ("status", "words", "says"),
    [
        (403, "You have exceeded your quota", "(403): You have exceeded your quota"),
        (402, "Payment required", "it answered 402: Payment required"),
        (401, "Invalid token", "the token is not valid (401): Invalid token"),
        (409, "a \x1b[31mbuild is running", "it answered 409: a [31mbuild is running"),
    ],
)
def test_the_hubs_error_message_is_shown(
    server: HostileServer, status: int, words: str, says: str
) -> None:
    body = json.dumps({"error": words}).encode()
    server.answer = lambda: iter([http(body, f"{status} No", "Content-Type: application/json")])
    with pytest.raises(HubRefused) as refused:
        space(server).restart()
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SSL_CERT_FILE", "/nowhere"),
        ("HTTPS_PROXY", "socks5://me:s3cret@127.0.0.1:1"),
        ("ALL_PROXY", "http://me:s3cret@[::1"),
        ("HF_ENDPOINT", "nonsense"),
        ("HF_ENDPOINT", "http://a\nb"),
        ("HF_ENDPOINT", "https://" + "x" * 64 + ".co"),
    ],
)
def test_an_impossible_hub_address_is_a_settings_error_in_one_line(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(HubRefused) as refused:
        HubSpace(REPO, TOKEN, endpoint=value if name == "HF_ENDPOINT" else "https://huggingface.co")
    assert "s3cret" not in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("token", ["hf_\u20ac", "hf_a\nhf_b"])
def test_a_token_invalid_in_a_header_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(HubRefused, match="HF_TOKEN has characters that no HTTP header") as refused:
        HubSpace(REPO, token)
    assert token not in str(refused.value)
