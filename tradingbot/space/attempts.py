"""When a request to a Space is sent again, the same for both transports."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from tenacity import RetryCallState, retry_if_result

from tradingbot.runtime.retry import answer_of, doubling, retry_after
from tradingbot.settings import Timeouts
from tradingbot.space.error_responses import FULL, TRANSIENT, Answer

MOST = 4
TRANSIENT_ANSWER = retry_if_result(lambda answer: answer.status in TRANSIENT)


@dataclass(frozen=True)
class Attempts:
    """The attempts at one request, of which none begins after `deadline`, of time.monotonic().

    A full queue is no failure: it is asked again beyond `most` attempts, unless that is one.
    """

    timeouts: Timeouts
    deadline: float
    most: int = MOST
    answers: list[Answer] = field(default_factory=list)

    def note(self, answer: Answer) -> Answer:
        """Keep an answer, in case that it is the last one; return it."""
        self.answers.append(answer)
        return answer

    def wait(self, state: RetryCallState) -> float:
        """Return the seconds until the next attempt."""
        backoff = doubling(self.timeouts.space_backoff, 16 * self.timeouts.space_backoff)
        answer: Answer | None = answer_of(state)
        asked = 0.0 if answer is None else retry_after(answer.headers)
        return max(min(asked, self.timeouts.space_retry_after), backoff(state))

    def are_enough(self, state: RetryCallState) -> bool:
        """Return whether there is no time, or no reason, for another attempt."""
        if time.monotonic() + state.upcoming_sleep >= self.deadline:
            return True
        answer: Answer | None = answer_of(state)
        waits = answer is not None and answer.status == FULL and self.most > 1
        return not waits and state.attempt_number >= self.most


def request_headers(headers: Mapping[str, str], body: bytes | None) -> dict[str, str]:
    """Return the headers of a request with this body; its answer is not compressed."""
    kind = {} if body is None else {"Content-Type": "application/json"}
    return {**headers, **kind, "Accept-Encoding": "identity"}
