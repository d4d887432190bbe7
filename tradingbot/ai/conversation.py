"""A conversation with a language model that may call tools: what was said, and what comes next.

Nothing is asked and no tool is run here; `agent.py` does both, at once or awaited.
"""

from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import uuid4

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolCall,
    ToolMessage,
)

from tradingbot.ai.finish_reasons import finish_reason, why_unfinished
from tradingbot.ai.sanitising import clean, cleaned
from tradingbot.errors import AIError
from tradingbot.formatting import quoted

LAST_STEP = "No further tool can be called. Answer now with what you know."
MOST_CALLS = 32  # tools that one answer may call

Call = TypeVar("Call", ToolCall, InvalidToolCall)


class Conversation:
    """`messages` go to the model; `hear` its answer; run `calls` and `tell` their results."""

    def __init__(self, system_prompt: str, user_message: str, max_steps: int) -> None:
        if max_steps < 1:
            raise ValueError(f"max_steps={max_steps}: expected at least 1")
        self.messages: list[BaseMessage] = [
            SystemMessage(clean(system_prompt)),
            HumanMessage(clean(user_message)),
        ]
        self.calls: list[ToolCall] = []
        self._refused: list[ToolMessage] = []
        self._step = 0
        self._max_steps = max_steps

    def hear(self, answer: AIMessage) -> str | None:
        """The text of the model's last word, or None while `calls` wait for their results.

        AIError when the answer is empty, unfinished, or calls tools in the last step.
        """
        self._step += 1
        if (why := why_unfinished(answer)) is not None:
            raise AIError(f"the language model {why}")
        answer = _sendable(answer)
        called = [*answer.tool_calls, *answer.invalid_tool_calls]
        if not called:
            return self._last_word(answer)
        if self._step == self._max_steps:
            names = quoted(", ".join(str(call["name"]) for call in called), 200)
            raise AIError(
                f"the language model gave no answer in max_steps={self._max_steps}; at last it "
                f"wanted to call {names}"
            )
        self.messages.append(answer)
        self.calls = answer.tool_calls[:MOST_CALLS]
        self._refused = [
            *(error_message(call, _too_many(called)) for call in answer.tool_calls[MOST_CALLS:]),
            *(error_message(call, _unreadable(call)) for call in answer.invalid_tool_calls),
        ]
        return None

    def tell(self, results: Sequence[ToolMessage]) -> None:
        """Add what `calls` gave, in their order."""
        self.messages += [*results, *self._refused]
        if self._step + 1 == self._max_steps:
            self.messages.append(HumanMessage(LAST_STEP))

    def _last_word(self, answer: AIMessage) -> str:
        text = answer.text.strip()
        if not text:
            reason = finish_reason(answer)
            raise AIError(
                f"the language model gave an empty answer in step {self._step}"
                + (f" (finish_reason={reason})" if reason not in ("", "stop") else "")
            )
        return text


def error_message(call: ToolCall | InvalidToolCall, text: str) -> ToolMessage:
    """A result that tells the model what went wrong."""
    return ToolMessage(
        f"Error: {text}", name=call["name"], tool_call_id=call["id"] or "", status="error"
    )


def _too_many(called: Sequence[Any]) -> str:
    return (
        f"not run. This answer calls {len(called)} tools; the first {MOST_CALLS} are run. Call it "
        "again if you still need it."
    )


def _unreadable(call: InvalidToolCall) -> str:
    return f"the arguments cannot be read: {quoted(call['error'] or 'no JSON', 300)}"


def _sendable(answer: AIMessage) -> AIMessage:
    """The answer as a server takes it back: clean text, and an id of its own for each call."""
    seen: set[str] = set()
    return answer.model_copy(
        update={
            "content": cleaned(answer.content),
            "tool_calls": [_with_id(call, seen) for call in answer.tool_calls],
            "invalid_tool_calls": [_with_id(call, seen) for call in answer.invalid_tool_calls],
        }
    )


def _with_id(call: Call, seen: set[str]) -> Call:
    call = cleaned(call)
    name = call["id"]
    if not name or name in seen:
        name = f"call_{uuid4().hex}"
    seen.add(name)
    call["id"] = name
    return call
