"""Read a Space's responses, or turn them into errors that say what to do."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from requests.structures import CaseInsensitiveDict

from tradingbot.errors import SpaceError, SpaceRejected, SpaceUnavailable
from tradingbot.formatting import cause_text, innermost, quoted
from tradingbot.space.answers import read_health, read_results
from tradingbot.space.session import TooLarge

PREDICT = "/predict/batch"
FULL = 429  # the queue is full: not a failure, but a reason to wait
# 502 to 504 come from a proxy in front of a starting, sleeping or paused Space
TRANSIENT = (FULL, 502, 503, 504)


@dataclass(frozen=True)
class Answer:
    """A response of a Space, with as much of the body as was read."""

    status: int
    headers: Mapping[str, str] = field(default_factory=CaseInsensitiveDict)
    body: bytes = b""


def out_of_time(url: str, timeout: float, answers: Sequence[Answer], error: Exception) -> Answer:
    """Return the last response if it reports a full queue.

    In this case the request spent the time-out waiting in the queue.

    Raises:
        SpaceUnavailable: The last response was a different one, or there was no response.
    """
    if answers and answers[-1].status == FULL:
        return answers[-1]
    raise SpaceUnavailable(
        f"{url} did not answer within {timeout:g} s; it may be overloaded or starting"
    ) from error


def unreachable(url: str, error: Exception) -> SpaceUnavailable:
    """Return the error for a request without a response. Raise it from `error`."""
    if isinstance(error, TooLarge):
        return SpaceUnavailable(f"{url} answered what no Space does: {error}")
    return SpaceUnavailable(
        f"{url} is out of reach ({cause_text(innermost(error))}); is the Space running?"
    )


def refusal(url: str, answer: Answer) -> SpaceError:
    """Return the error for a response other than 200."""
    status = answer.status
    message = _message(answer)
    answered = f"{url} answered {status}" + (f": {message}" if message else "")
    if status in TRANSIENT:
        hint = (
            "its queue is full"
            if status == 429
            else "the Space may be paused, asleep or starting (its owner wakes it with restart)"
        )
        return SpaceUnavailable(f"{answered}; {hint}")
    if status >= 500:
        return SpaceUnavailable(f"{answered}; the Space's log says why")
    if 300 <= status < 400:
        return SpaceRejected(
            f"{answered}, a redirect to {quoted(answer.headers.get('Location'), 200)}; "
            f"set KRONOS_SPACE_URL to the Space's final address"
        )
    hint = {
        401: "set KRONOS_API_KEY to the Space's key (a private Space also requires HF_TOKEN)",
        403: "a private Space requires HF_TOKEN and HF_SPACE_REPO",
        404: "there is no kronos_space here: check KRONOS_SPACE_URL "
        "(a private Space requires HF_TOKEN and HF_SPACE_REPO)",
        413: "the request is larger than the Space allows",
    }.get(status, "the Space refuses this request")
    return SpaceRejected(f"{answered}; {hint}")


def health_in(url: str, answer: Answer) -> dict[str, Any]:
    """Return the fields of /health. Raise SpaceUnavailable if the response is not a Space's."""
    try:
        return read_health(answer.body)
    except ValueError as error:
        raise SpaceUnavailable(
            f"{url}/health is not a kronos_space's: check the address ({error})"
        ) from error


def results_in(url: str, answer: Answer) -> list[Any]:
    """Return the unchecked results of a batch. Raise SpaceUnavailable if there are none."""
    try:
        return read_results(answer.body)
    except ValueError as error:
        kind = quoted(answer.headers.get("Content-Type", "no content type"), 60)
        raise SpaceUnavailable(
            f"{url}{PREDICT} answered 200, but {error} ({kind}); "
            "is KRONOS_SPACE_URL the Space's own address?"
        ) from error


def _message(answer: Answer) -> str:
    """Return the message of a Space's error, or '' for another format, such as a proxy's page."""
    try:
        error: Mapping[str, Any] = json.loads(answer.body)["error"]
        return quoted(error["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
