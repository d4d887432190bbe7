"""The client's time-outs are total, answers are limited in size, and unsendable settings are
refused.
"""

import gzip
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path

import pandas as pd
import pytest
import requests

from tests.support.hostile import OPEN, QUICK, SLOW, HostileServer, http, transports
from tests.support.space_server import until
from tradingbot.client import KronosClient
from tradingbot.errors import ConfigError, KronosError, SpaceRejected, SpaceUnavailable
from tradingbot.settings import Settings
from tradingbot.space.address import SpaceAddress
from tradingbot.space.client import SpaceClient
from tradingbot.space.wire import prepare

GOOD = b'{"status":"ok","model":"m","boot_id":"b"}'
SLOW_ONES = [name for name in transports(GOOD, "") if name.startswith(SLOW)]


@pytest.fixture
def server() -> Iterator[HostileServer]:
    with HostileServer() as server:
        yield server


@pytest.fixture
def client(server: HostileServer) -> Iterator[SpaceClient]:
    with SpaceClient(SpaceAddress(server.url, api_key="a-secret", timeouts=QUICK)) as client:
        yield client


@pytest.mark.parametrize("name", SLOW_ONES)
def test_a_dripping_answer_times_out_and_leaves_no_thread(
    server: HostileServer, client: SpaceClient, name: str
) -> None:
    server.answer = transports(GOOD, "")[name]
    before = set(threading.enumerate())
    with pytest.raises(SpaceUnavailable, match=r"did not answer within 0\.3 s"):
        client.health()
    until(lambda: not [t for t in threading.enumerate() if "(run)" in t.name and t not in before])


@pytest.mark.parametrize("name", ["endless body", "endless chunks", "endless error", "gzip bomb"])
def test_an_endless_answer_is_cut_off(
    server: HostileServer, client: SpaceClient, name: str
) -> None:
    server.answer = transports(GOOD, "")[name]
    with pytest.raises(SpaceUnavailable, match=r"answered (what no Space does: it has more|500)"):
        client.health()
    assert server.sent < 20_000_000, "what the machine's buffers hold, and no more"


def test_only_the_beginning_of_a_refusal_is_read(
    server: HostileServer, client: SpaceClient
) -> None:
    message = b'{"error":{"message":"\\u001b[31mno\\u0000 ' + b"x" * 50_000 + b'"}}'
    server.answer = lambda: iter([http(message, "422 No")])
    with pytest.raises(SpaceRejected, match=r"answered 422: \[31mno xx") as refused:
        client.health()
    assert len(str(refused.value)) < 700
    assert str(refused.value).isprintable()


def test_compressed_answers_are_decoded(server: HostileServer, client: SpaceClient) -> None:
    server.answer = lambda: iter([http(gzip.compress(GOOD), "200 OK", "Content-Encoding: gzip")])
    assert client.health()["model"] == "m"
    assert b"Accept-Encoding: identity" in server.heads[0]


def test_all_attempts_and_waits_share_one_time_out(
    server: HostileServer,
) -> None:
    server.answer = lambda: iter([http(b"", "503 Wait", "Retry-After: 999999999")])
    patient = replace(QUICK, space_retry_after=60.0)
    with (
        SpaceClient(SpaceAddress(server.url, timeouts=patient, timeout=5)) as client,
        pytest.raises(SpaceUnavailable, match="answered 503"),
    ):
        client._http.predict_batch(b"{}", limit=9)
    assert len(server.heads) == 1, "the next would come after the time-out"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(server: HostileServer, client: SpaceClient, status: int) -> None:
    with HostileServer() as elsewhere:
        answer = http(b"", f"{status} Go", f"Location: {elsewhere.url}/\x1b[31m")
        server.answer = lambda: iter([answer])
        with pytest.raises(SpaceRejected, match=f"a redirect to {elsewhere.url}/ ") as refused:
            client._http.predict_batch(b"{}", limit=9)
        assert str(refused.value).isprintable()
        assert elsewhere.heads == []


def test_a_proxy_from_the_environment_is_used_and_netrc_is_ignored(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("default login somebody password a-password\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("NO_PROXY", "")
    server.answer = lambda: iter([http(GOOD)])
    with requests.Session() as session:
        for http_session in (None, session):
            with SpaceClient(
                SpaceAddress("http://space.example", api_key="a-key", timeouts=QUICK),
                http=http_session,
            ) as client:
                assert client.health()["model"] == "m"
            assert server.heads[-1].startswith(b"GET http://space.example/health ")
            assert b"X-API-Key: a-key" in server.heads[-1]
            assert b"uthorization" not in server.heads[-1]


def test_an_answer_through_a_proxy_is_bounded_too(
    server: HostileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("NO_PROXY", "")
    server.answer = lambda: chain([OPEN], repeat(b"X-A: b\r\n", 50), repeat(0.01, 10_000))
    with (
        SpaceClient(SpaceAddress("http://space.example", timeouts=QUICK)) as client,
        pytest.raises(SpaceUnavailable, match=r"did not answer within 0\.3 s"),
    ):
        client.health()


# settings of the machine ------------------------------------------------------------------------

TOO_LONG = f"{'a' * 64}.example"
WRONG = [
    ({"REQUESTS_CA_BUNDLE": "/no/such.pem"}, "https://space.example", "REQUESTS_CA_BUNDLE (or"),
    ({"CURL_CA_BUNDLE": "/no/such.pem"}, "https://space.example", "/no/such.pem: expected a file"),
    ({"REQUESTS_CA_BUNDLE": __file__}, "https://space.example", "expected a file of certificates"),
    ({"https_proxy": "socks5://u:pw@h:1"}, "https://space.example", "pip install pysocks"),
    ({"https_proxy": "http://u:pw@[::1"}, "https://space.example", "expected a proxy such as"),
    ({"https_proxy": "http://u:pw@h:99999"}, "https://space.example", "HTTPS_PROXY"),
    ({"https_proxy": "ftp://u:pw@h"}, "https://space.example", "expected a proxy such as"),
    ({"all_proxy": f"http://u:pw@{TOO_LONG}"}, "https://space.example", "ALL_PROXY"),
    ({"https_proxy": "http://"}, "https://space.example", "expected a proxy such as"),
    ({}, f"https://{TOO_LONG}", "label "),
    ({}, "https://a..example", "label "),
    ({}, "https://.example", "URL has an invalid label"),
    ({}, "https://\u2603.example", "not a valid IDNA label"),
    ({}, "https://space\n.example", "a space or a control character"),
    ({}, "https://space.example/\x1b[31m", "a space or a control character"),
    ({}, "https://space.example/a b", "a space or a control character"),
    ({}, "https://space.example:99999", "Failed to parse"),
    ({}, "https://[::1", "not a valid host or port"),
]


@pytest.mark.parametrize(("environ", "url", "says"), WRONG)
def test_an_unsendable_setting_is_an_error_in_one_line(
    environ: dict[str, str], url: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with SpaceClient(SpaceAddress(url, timeouts=QUICK)) as client:
        for ask in (client.check, client.health, client.check_key):
            with pytest.raises(ConfigError) as wrong:
                ask()
            assert says in str(wrong.value)
            assert str(wrong.value).isprintable()
            assert "pw" not in str(wrong.value).replace("pwd", "")
        assert not client.is_healthy()


def test_an_unsendable_header_is_a_settings_error(server: HostileServer) -> None:
    for key in ("a\nb", " a", "schl\u00fcssel\u20ac"):
        with (
            SpaceClient(SpaceAddress(server.url, api_key=key, timeouts=QUICK)) as client,
            pytest.raises(ConfigError) as wrong,
        ):
            client.health()
        assert str(wrong.value) == "KRONOS_API_KEY has characters that no HTTP header carries"
    assert server.heads == []


def test_predict_returns_none_after_one_warning_when_nothing_can_be_sent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # `make run` leaves a database in the project's folder
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such.pem")
    days = pd.bdate_range("2024-01-02", periods=40).as_unit("us")
    bars = pd.DataFrame(dict.fromkeys(["open", "high", "low", "close", "volume"], 100.0), days)
    settings = Settings(space_url="https://space.example", data_source="sample")
    with KronosClient(settings=settings) as client:
        assert client.predict("AAPL") is None
        [record] = caplog.records
        assert "REQUESTS_CA_BUNDLE (or CURL_CA_BUNDLE) /no/such.pem" in record.getMessage()
        [(_, answer)] = client.forecast_many({"SPY": bars})
        assert isinstance(answer, ConfigError)
        assert not client.is_healthy()


class Odd(requests.Session):
    """A caller's session that raises errors which no HTTP client should raise."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def request(self, *args: object, **options: object) -> requests.Response:  # type: ignore[override]
        raise self.error


@pytest.mark.parametrize(
    "error", [RuntimeError("odd"), KeyError("x"), UnicodeError("y"), AssertionError(), OSError("z")]
)
def test_any_exception_of_a_session_becomes_the_tickers_error(error: Exception) -> None:
    days = pd.bdate_range("2024-01-02", periods=40).as_unit("us")
    bars = pd.DataFrame(dict.fromkeys(["open", "high", "low", "close", "volume"], 100.0), days)
    request = prepare("SPY", bars, horizon=1, interval="1d", samples=5)
    with Odd(error) as session:
        client = SpaceClient(SpaceAddress("http://127.0.0.1:9", timeouts=QUICK), http=session)
        [[(symbol, answer)]] = client.forecast_batches([request])
        assert symbol == "SPY"
        assert isinstance(answer, KronosError)
        assert "is out of reach" in str(answer)
