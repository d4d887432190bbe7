"""The outcome of a run is posted to each service in its format, without a secret."""

import json
import logging
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.notification_server import NotificationServer, notification_server
from tradingbot.errors import ConfigError, DataUnavailable, HubError, KronosError, TooFewBars
from tradingbot.jobs.summary import ChallengerOutcome, Ending, RunSummary, TickerOutcome
from tradingbot.monitoring.notification import NotSent, announce, outcome, sample_message, send
from tradingbot.monitoring.scrubbing import scrubbed
from tradingbot.monitoring.services import Message, target_of
from tradingbot.runtime.signals import Stopped
from tradingbot.settings import Timeouts

QUICK = Timeouts(notify=0.5, notify_backoff=0.01)
ODD = Message("kronosbot <b>&amp;</b> *_[x](y)_*", ("SPY: 1 < 2 & 3 > 2 …", "zwei"), good=False)


@pytest.fixture
def box() -> Iterator[NotificationServer]:
    with notification_server() as box:
        yield box


def failed(*errors: KronosError) -> RunSummary:
    tickers = {f"T{n}": TickerOutcome("failed", failure=error) for n, error in enumerate(errors)}
    return RunSummary(tickers={"SPY": TickerOutcome("stored"), **tickers}, seconds=41.2)


# shapes -----------------------------------------------------------------------------------


def test_a_webhook_gets_one_json_document(box: NotificationServer) -> None:
    send(target_of(f"{box.url}/hook?who=me"), replace(ODD, document={"status": "failed"}), QUICK)
    [post] = box.posts
    assert post.path == "/hook?who=me"
    assert post.headers["Content-Type"] == "application/json"
    assert post.body == {"text": ODD.text, "status": "failed"}


@pytest.mark.parametrize("path", ["services/T0/B0/xyz", "hooks/abc"])
def test_slack_gets_text_with_its_three_special_characters_escaped(
    box: NotificationServer, path: str
) -> None:
    send(target_of(f"slack+{box.url}/{path}"), ODD, QUICK)
    [post] = box.posts
    assert post.path == f"/{path}"
    assert post.body == {
        "text": "kronosbot &lt;b&gt;&amp;amp;&lt;/b&gt; *_[x](y)_*\n"
        "SPY: 1 &lt; 2 &amp; 3 &gt; 2 …\nzwei"
    }


@pytest.mark.parametrize("ending", ["", "/", "/sendMessage"])
def test_telegram_gets_plain_text_for_a_chat(box: NotificationServer, ending: str) -> None:
    address = f"telegram+{box.url}/bot12:AB-c{ending}?chat_id=-100&message_thread_id=7"
    send(target_of(address), ODD, QUICK)
    [post] = box.posts
    assert post.path == "/bot12:AB-c/sendMessage"
    assert post.body.pop("link_preview_options") == {"is_disabled": True}
    assert post.body == {"chat_id": "-100", "message_thread_id": "7", "text": ODD.text}


def test_ntfy_gets_topic_title_priority_and_login(box: NotificationServer) -> None:
    send(target_of(f"ntfy+http://:tk_abc@{box.host}/nightly%20runs"), ODD, QUICK)
    [post] = box.posts
    assert post.path == "/"
    assert post.headers["Authorization"] == "Basic OnRrX2FiYw=="
    assert post.body == {
        "topic": "nightly runs",
        "title": ODD.title,
        "message": "SPY: 1 < 2 & 3 > 2 …\nzwei",
        "priority": 4,
        "tags": ["warning"],
    }


@pytest.mark.parametrize(
    ("address", "service", "url"),
    [
        ("https://hooks.slack.com/services/T/B/x", "slack", "https://hooks.slack.com/services/T/B/x"),
        ("slack://hooks.slack.com/services/T/B/x", "slack", "https://hooks.slack.com/services/T/B/x"),
        ("slack://T0AB/B0CD/xYz", "slack", "https://hooks.slack.com/services/T0AB/B0CD/xYz"),
        ("slack://chat.example/hooks/a", "slack", "https://chat.example/hooks/a"),
        ("slack+http://mattermost:8065/hooks/a", "slack", "http://mattermost:8065/hooks/a"),
        ("telegram://12:AB/-100", "telegram", "https://api.telegram.org/bot12:AB/sendMessage"),
        ("https://api.telegram.org/bot12:AB/sendMessage?chat_id=1", "telegram",
         "https://api.telegram.org/bot12:AB/sendMessage"),
        ("https://ntfy.sh/kronos", "ntfy", "https://ntfy.sh/"),
        ("ntfy://kronos", "ntfy", "https://ntfy.sh/"),
        ("ntfy://push.example/base/kronos", "ntfy", "https://push.example/base/"),
        ("https://example.org/slack", "webhook", "https://example.org/slack"),
        ("https://not-ntfy.sh/kronos", "webhook", "https://not-ntfy.sh/kronos"),
        ("HTTPS://EXAMPLE.org:8443/x", "webhook", "https://EXAMPLE.org:8443/x"),
    ],
)  # fmt: skip
def test_the_service_is_recognised_by_its_address(address: str, service: str, url: str) -> None:
    target = target_of(address)
    assert (target.service, target.url) == (service, url)
    assert url not in repr(target)


@pytest.mark.parametrize(
    "address",
    [
        "hooks.slack.com/services/s3cret", "ftp://s3cret.example/x", "slack+ftp://s3cret/x",
        "https://", "https:///s3cret", "http://host:s3cret/", "http://[s3cret/",
        "https://a b/s3cret",
        "telegram://s3cret", "telegram://s3cret/", "https://api.telegram.org/bots3cret/sendMessage",
        "https://ntfy.sh/", "ntfy://", "slack://", "https://s3cret\\@host/x", "https://s3cret\n.org",
        "smtp://s3cret", "https+slack://s3cret.org/",
    ],
)  # fmt: skip
def test_a_wrong_address_is_refused_without_being_shown(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        target_of(address)
    assert "KRONOS_NOTIFY" in str(caught.value)
    assert "s3cret" not in f"{caught.value!r}{caught.value.__cause__}"


@given(st.text(max_size=30))
def test_any_text_is_a_target_or_a_configuration_error(text: str) -> None:
    for prefix in ("", "https://", "slack://", "telegram://", "ntfy+http://"):
        try:
            target = target_of(prefix + text)
        except ConfigError:
            continue
        json.dumps(target.body(ODD))


# texts ------------------------------------------------------------------------------------


def test_each_result_of_a_run_has_its_headline() -> None:
    good = RunSummary(tickers={"SPY": TickerOutcome("stored")}, seconds=41.2)
    some = failed(TooFewBars("5 usable 1d bars"), TooFewBars("5 usable 1d bars"))
    stopped = replace(some, ending=Ending.by(Stopped(15)), shard="1/4")
    lost = RunSummary(Ending.by(HubError("The Hub could not restart Space me/x")), seconds=3)
    messages = [outcome(item, {}) for item in (good, some, stopped, lost)]
    assert [message.title for message in messages] == [
        "kronosbot ok: 1 of 1 tickers have a forecast, took 41 s",
        "kronosbot partial: 1 of 3 tickers have a forecast, 2 failed, took 41 s",
        "kronosbot stopped: by SIGTERM, 1 of 3 tickers have a forecast, the next run does the rest,"
        " 2 failed, took 41 s, shard 1/4",
        "kronosbot failed: The Hub could not restart Space me/x (exit code 1), "
        "no ticker was reached, took 3 s",
    ]
    assert [message.good for message in messages] == [True, False, False, False]
    assert messages[1].lines == ("T0, T1: 5 usable 1d bars",)
    assert messages[1].document["failures"] == [
        {"kind": "TooFewBars", "reason": "5 usable 1d bars", "tickers": 2, "symbols": ["T0", "T1"]}
    ]
    assert messages[2].document["exit_code"] == 143


def test_a_challenger_that_failed_is_reported_without_a_secret() -> None:
    challengers = (
        ChallengerOutcome("kronos-small", stored=1, tickers=1),
        ChallengerOutcome("kronos-base", tickers=1, failure="it said k3y-of-space"),
    )
    summary = RunSummary(tickers={"SPY": TickerOutcome("stored")}, challengers=challengers)
    message = outcome(summary, SECRETS)
    assert message.lines == ("kronos-base: it said ***",)
    assert message.document["status"] == "ok", "what is served is not concerned"


def test_a_message_has_a_limited_length() -> None:
    many = failed(*(DataUnavailable(f"{n} " + "x" * 5000) for n in range(500)))
    message = outcome(replace(many, model="m" * 9999), {})
    assert len(message.text.encode()) < 4000, "ntfy would make a file of it"
    assert len(json.dumps(dict(message.document))) < 8000
    assert message.lines[-1] == "and 495 more reasons: see the log"


SECRETS = {
    "HF_TOKEN": "hf_abcdefghijkl",
    "KRONOS_API_KEY": "k3y-of-space",
    "POSTGRES_PASSWORD": "p(w)d+",
    "DATABASE_URL": "postgresql://bots:p%40ss%2Fword@db/kronos",
    "HTTPS_PROXY": "http://me:pr0xy@proxy:3128",
    "KRONOS_NOTIFY": "https://hooks.example.org/services/T0AB/B0CD/xYzSecret?token=qUery",
    "OPENAI_API_KEY": "sk-123456",
}
HIDDEN = [
    "hf_abcdefghijkl", "k3y-of-space", "p(w)d+", "p%40ss%2Fword", "p@ss/word", "pr0xy", "xYzSecret",
    "qUery", "T0AB", "sk-123456", SECRETS["KRONOS_NOTIFY"], SECRETS["DATABASE_URL"],
]  # fmt: skip


@given(
    st.lists(st.one_of(st.sampled_from(HIDDEN), st.text(max_size=9)), max_size=9),
    st.sampled_from(" ,:/='\""),
)
def test_no_secret_from_the_environment_appears_in_a_text(parts: list[str], between: str) -> None:
    text = scrubbed(between.join(parts), SECRETS)
    for secret in HIDDEN:
        assert f"{between}{secret}{between}" not in f"{between}{text}{between}"


def test_no_secret_appears_in_a_message(box: NotificationServer) -> None:
    secrets = " ".join(HIDDEN)
    summary = replace(
        failed(DataUnavailable(secrets)),
        ending=Ending(1, "HubError", f"it secrets {secrets}"),
        model=None,
    )
    environ = {**SECRETS, "KRONOS_NOTIFY": f"{box.url}/xYzSecret?token=qUery"}
    announce(summary, QUICK, environ)
    [post] = box.posts
    assert "***" in post.body["text"]
    for secret in {*HIDDEN} - {"T0AB", SECRETS["KRONOS_NOTIFY"]}:
        assert secret not in json.dumps(post.body), secret


def test_idle_runs_and_dry_runs_send_no_message(box: NotificationServer) -> None:
    environ = {"KRONOS_NOTIFY": box.url}
    announce(RunSummary(Ending(message="Nothing to do: another run is at work")), QUICK, environ)
    announce(RunSummary(dry_run=True), QUICK, environ)
    announce(RunSummary(), QUICK, {"KRONOS_NOTIFY": ""})
    announce(RunSummary(), QUICK, {"KRONOS_NOTIFY": "nonsense"})
    assert box.posts == []
    announce(RunSummary(), QUICK, environ)
    assert len(box.posts) == 1


# services that fail -----------------------------------------------------------------------


@pytest.mark.parametrize("first", [500, 503, 429])
def test_a_transient_failure_is_retried_once(box: NotificationServer, first: int) -> None:
    box.answers.append(first)
    send(target_of(box.url), sample_message(), QUICK)
    assert len(box.posts) == 2
    box.answers.extend([first, first])
    with pytest.raises(NotSent, match=f"it answered {first}"):
        send(target_of(box.url), sample_message(), QUICK)
    assert len(box.posts) == 4


@pytest.mark.parametrize("answer", [400, 401, 404, 410, 301, 307])
def test_permanent_failures_are_not_retried_and_redirects_not_followed(
    box: NotificationServer, answer: int
) -> None:
    box.answers.append(answer)
    with pytest.raises(NotSent, match=f"it answered {answer}"):
        send(target_of(f"http://me:s3cret@{box.host}/s3cret"), sample_message(), QUICK)
    assert [post.path for post in box.posts] == ["/s3cret"]


ANSWERS = {
    "nothing": b"...",
    "an unfinished head": b"HTTP/1.1 200 OK\r\nA: ...",
    "no http": b"\x00\x01\x02 hello\r\n\r\n",
    "a head that urllib3 logs": b"HTTP/1.1 500 Oh\r\nno colon here\r\nA: b\r\n\r\n",
    "a status that is none": b"HTTP/1.1 2000 OK\r\n\r\n",
    "an endless line": b"HTTP/1.1 200 " + b"x" * 100_000,
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_failure_is_one_warning_that_hides_the_address(
    box: NotificationServer, caplog: pytest.LogCaptureFixture, answer: bytes
) -> None:
    caplog.set_level(logging.DEBUG)
    box.answers.extend([answer, answer])
    environ = {"KRONOS_NOTIFY": f"slack+http://me:s3cret@{box.host}/s3cret?s3cret=1"}
    announce(RunSummary(), QUICK, environ)
    [record] = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage().startswith("KRONOS_NOTIFY (slack): the message was not taken: ")
    assert "s3cret" not in caplog.text
    assert box.host not in caplog.text


def test_an_unreachable_service_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    announce(RunSummary(), QUICK, {"KRONOS_NOTIFY": f"http://127.0.0.1:{port}/s3cret"})
    [record] = caplog.records
    assert record.getMessage().endswith("it is out of reach")
