"""The retry policy for requests to a Space, shared by both transports."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from tenacity import RetryCallState, retry_if_result

from tradingbot.runtime.retry import answer_of, doubling, retry_after
from tradingbot.settings import Timeouts
from tradingbot.space.error_responses import FULL, TRANSIENT, Answer

MAX_ATTEMPTS = 4
TRANSIENT_ANSWER = retry_if_result(lambda answer: answer.status in TRANSIENT)


@dataclass(frozen=True)
class Attempts:
    """The attempts of one request.

    No attempt starts after `deadline`, a time of time.monotonic(). A full queue is not a failure.
    A request that meets a full queue is retried beyond `limit` attempts, unless `limit` is 1.
    """

    timeouts: Timeouts
    deadline: float
    limit: int = MAX_ATTEMPTS
    answers: list[Answer] = field(default_factory=list)

    def record(self, answer: Answer) -> Answer:
        """Record a response and return it."""
        self.answers.append(answer)
        return answer

    def wait(self, state: RetryCallState) -> float:
        """Return the seconds until the next attempt."""
        backoff = doubling(self.timeouts.space_backoff, 16 * self.timeouts.space_backoff)
        answer: Answer | None = answer_of(state)
        asked = 0.0 if answer is None else retry_after(answer.headers)
        return max(min(asked, self.timeouts.space_retry_after), backoff(state))

    def should_stop(self, state: RetryCallState) -> bool:
        """Return whether to stop retrying."""
        if time.monotonic() + state.upcoming_sleep >= self.deadline:
            return True
        answer: Answer | None = answer_of(state)
        waits = answer is not None and answer.status == FULL and self.limit > 1
        return not waits and state.attempt_number >= self.limit


def request_headers(headers: Mapping[str, str], body: bytes | None) -> dict[str, str]:
    """Return the headers of a request with this body. Compressed responses are not accepted."""
    kind = {} if body is None else {"Content-Type": "application/json"}
    return {**headers, **kind, "Accept-Encoding": "identity"}
