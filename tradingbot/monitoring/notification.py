"""Post the outcome of a run to the address in KRONOS_NOTIFY.

A notification never fails the run. A failure is logged as one warning without the address, which is
a secret.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import requests
from tenacity import retry_if_result, stop_after_attempt, wait_fixed

from tradingbot.environment import environment
from tradingbot.errors import ConfigError, KronosError
from tradingbot.formatting import duration, quoted
from tradingbot.jobs.summary import RunSummary
from tradingbot.monitoring.scrubbing import scrubbed
from tradingbot.monitoring.services import Message, Target, target_of
from tradingbot.runtime.concurrency import within
from tradingbot.runtime.retry import retry
from tradingbot.runtime.signals import Stopped
from tradingbot.settings import Timeouts
from tradingbot.settings.notification import Notification
from tradingbot.space.session import answers_by, space_session

logger = logging.getLogger(__name__)

ATTEMPTS = 2
MAX_REASONS, MAX_SYMBOLS = 5, 8  # limits on the failures that a message lists
MAX_LINE = 300  # characters; ntfy allows 4,096 bytes, Telegram 4,096 characters, Slack 40,000


class NotSent(KronosError):
    """A service did not accept the message. The text names the service, but not its address."""


def configured_target(environ: Mapping[str, str] | None = None) -> Target | None:
    """Return the target of KRONOS_NOTIFY, or None if it is not set.

    Raises:
        ConfigError: KRONOS_NOTIFY is not a valid target.
    """
    url = Notification.from_env(environ).url
    return None if url is None else target_of(url)


def announce(
    summary: RunSummary, timeouts: Timeouts, environ: Mapping[str, str] | None = None
) -> None:
    """Post the outcome of a run. Dry runs and runs that had nothing to do are not posted."""
    environ = environment(environ)
    if summary.dry_run or (summary.ending.exit_code == 0 and summary.ending.message):
        return
    try:
        target = configured_target(environ)
    except ConfigError:
        return  # the run has already reported this error
    if target is None:
        return
    try:
        send(target, outcome(summary, environ), timeouts)
    except NotSent as error:
        logger.warning("%s", error)
    except Exception as error:  # a bug here must not fail the run
        logger.warning("the outcome could not be sent: %s", type(error).__name__)


def outcome(summary: RunSummary, environ: Mapping[str, str]) -> Message:
    """Return a message: a line about the run, and a line for each reason why tickers failed."""
    ending = summary.ending
    status = _status(summary)
    failures = [
        {
            "kind": kind,
            "reason": _clean(reason, environ),
            "tickers": len(symbols),
            "symbols": [quoted(symbol, 40) for symbol in symbols[:MAX_SYMBOLS]],
        }
        for (kind, reason), symbols in list(summary.failures().items())[:MAX_REASONS]
    ]
    document: dict[str, Any] = {
        "program": "kronosbot",
        "status": status,
        "exit_code": ending.exit_code,
        "message": None if ending.message is None else _clean(ending.message, environ),
        "started_at": summary.started_at.replace(tzinfo=UTC).isoformat(),
        "seconds": round(summary.seconds, 3),
        "model": None if summary.model is None else quoted(summary.model, 100),
        "shard": summary.shard,
        "counts": summary.counts(),
        "failures": failures,
    }
    title = f"kronosbot {status}: {_headline(summary, document['message'])}"
    return Message(title, tuple(_lines(failures, summary, environ)), status == "ok", document)


def sample_message() -> Message:
    """Return the message of `kronosbot notify --test`."""
    return Message(
        "kronosbot test: notifications arrive here",
        ("The outcome of each run will look like this. Markup is plain text: <b>&amp;*_[]</b>",),
        document={"program": "kronosbot", "status": "test"},
    )


def send(target: Target, message: Message, timeouts: Timeouts) -> None:
    """Post the message. Try a second time if the first failure may be transient.

    Raises:
        NotSent: The service did not accept the message.
    """
    failure = retry(
        lambda: _attempt(target, message, timeouts.notify),
        again=retry_if_result(lambda failure: failure is not None and failure.may_pass),
        wait=wait_fixed(timeouts.notify_backoff),
        stop=stop_after_attempt(ATTEMPTS),
    )
    if failure is not None:
        service = f"KRONOS_NOTIFY ({target.service})"
        raise NotSent(f"{service}: the message was not taken: {failure.cause}")


@dataclass(frozen=True)
class _Failure:
    """Why a service did not accept a message."""

    cause: str
    may_pass: bool = True  # another attempt may succeed


def _attempt(target: Target, message: Message, seconds: float) -> _Failure | None:
    """Post the message. Return None if the service accepted it."""
    try:
        # `within` also limits the look-up of the host name, for which requests has no time-out
        status = within(seconds + 1.0, lambda: _post(target, message, seconds))
    except Exception as error:  # do not show its text, which would contain the address
        return _Failure(_cause(error, seconds))
    if 200 <= status < 300:
        return None
    redirect = ", a redirect, which is not followed" if 300 <= status < 400 else ""
    return _Failure(f"it answered {status}{redirect}", may_pass=status >= 500 or status == 429)


def _post(target: Target, message: Message, seconds: float) -> int:
    """Post the message and return the status of the response. The body is not read."""
    deadline = time.monotonic() + seconds
    with space_session(target.url) as session, answers_by(deadline), _urllib3_logs_disabled():
        answer = session.post(
            target.url,
            json=target.body(message),
            headers={"User-Agent": "kronosbot"},
            auth=target.login or session.auth,
            timeout=seconds,
            allow_redirects=False,  # send the address and the login to this host only
            stream=True,
        )
        answer.close()
        return answer.status_code


@contextmanager
def _urllib3_logs_disabled() -> Iterator[None]:
    """Disable urllib3's loggers, which log the full address."""
    logs = [logging.getLogger(f"urllib3.{name}") for name in ("connection", "connectionpool")]
    before = [log.disabled for log in logs]
    try:
        for log in logs:
            log.disabled = True
        yield
    finally:
        for log, disabled in zip(logs, before, strict=True):
            log.disabled = disabled


def _cause(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError | requests.Timeout):
        return f"no answer within {seconds:g} s"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not trusted"
    if isinstance(error, requests.ConnectionError):
        return "it is out of reach"
    return type(error).__name__


def _status(summary: RunSummary) -> str:
    if summary.ending.error == Stopped.__name__:
        return "stopped"
    if summary.ending.exit_code:
        return "failed"
    return "partial" if summary.failed else "ok"


def _headline(summary: RunSummary, message: str | None) -> str:
    done = f"{len(summary.done)} of {len(summary.tickers)} tickers have a forecast"
    parts = [done if summary.tickers else "no ticker was reached"]
    if summary.ending.error == Stopped.__name__:
        parts = [f"by {message}", *parts, "the next run does the rest"]
    elif message:
        parts = [f"{message} (exit code {summary.ending.exit_code})", *parts]
    if summary.failed:
        parts.append(f"{len(summary.failed)} failed")
    parts.append(f"took {duration(summary.seconds)}")
    if summary.shard != "0/1":
        parts.append(f"shard {summary.shard}")
    return ", ".join(parts)


def _lines(
    failures: list[dict[str, Any]], summary: RunSummary, environ: Mapping[str, str]
) -> Iterator[str]:
    for failure in failures:
        more = failure["tickers"] - len(failure["symbols"])
        tickers = ", ".join(failure["symbols"]) + (f" and {more} more" if more else "")
        yield f"{tickers}: {failure['reason']}"
    broken = [challenger for challenger in summary.challengers if challenger.failure is not None]
    for challenger in broken[:MAX_REASONS]:
        yield f"{quoted(challenger.name, 100)}: {_clean(str(challenger.failure), environ)}"
    if (rest := len(summary.failures()) - len(failures)) > 0:
        yield f"and {rest} more reasons: see the log"


def _clean(text: str, environ: Mapping[str, str]) -> str:
    return quoted(scrubbed(text, environ), MAX_LINE)
