"""A conversation with a language model that may call tools: its messages and the next step.

This module sends nothing and runs no tools. `agent.py` sends the messages and runs the tools,
synchronously or asynchronously.
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
MAX_CALLS = 32  # tools that one answer may call

Call = TypeVar("Call", ToolCall, InvalidToolCall)


class Conversation:
    """Messages and pending tool calls.

    Send `messages` to the model, pass its answer to `add_answer`, run `calls` and pass the results
    to `add_results`.
    """

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

    def add_answer(self, answer: AIMessage) -> str | None:
        """Record an answer. Return its text if it is final, or None if `calls` must be run.

        Raises:
            AIError: The answer is empty, unfinished, or calls tools in the last step.
        """
        self._step += 1
        if (why := why_unfinished(answer)) is not None:
            raise AIError(f"the language model {why}")
        answer = _sendable(answer)
        called = [*answer.tool_calls, *answer.invalid_tool_calls]
        if not called:
            return self._final_text(answer)
        if self._step == self._max_steps:
            names = quoted(", ".join(str(call["name"]) for call in called), 200)
            raise AIError(
                f"the language model gave no answer in max_steps={self._max_steps}; its last "
                f"answer calls {names}"
            )
        self.messages.append(answer)
        self.calls = answer.tool_calls[:MAX_CALLS]
        self._refused = [
            *(error_message(call, _too_many(called)) for call in answer.tool_calls[MAX_CALLS:]),
            *(error_message(call, _unreadable(call)) for call in answer.invalid_tool_calls),
        ]
        return None

    def add_results(self, results: Sequence[ToolMessage]) -> None:
        """Add the results of `calls`, in their order."""
        self.messages += [*results, *self._refused]
        if self._step + 1 == self._max_steps:
            self.messages.append(HumanMessage(LAST_STEP))

    def _final_text(self, answer: AIMessage) -> str:
        text = answer.text.strip()
        if not text:
            reason = finish_reason(answer)
            raise AIError(
                f"the language model gave an empty answer in step {self._step}"
                + (f" (finish_reason={reason})" if reason not in ("", "stop") else "")
            )
        return text


def error_message(call: ToolCall | InvalidToolCall, text: str) -> ToolMessage:
    """Return a tool result that describes an error to the model."""
    return ToolMessage(
        f"Error: {text}", name=call["name"], tool_call_id=call["id"] or "", status="error"
    )


def _too_many(called: Sequence[Any]) -> str:
    return (
        f"not run. This answer calls {len(called)} tools; the first {MAX_CALLS} are run. Call it "
        "again if you still need it."
    )


def _unreadable(call: InvalidToolCall) -> str:
    return f"the arguments cannot be read: {quoted(call['error'] or 'no JSON', 300)}"


def _sendable(answer: AIMessage) -> AIMessage:
    """Return the answer with clean text and a unique ID for each call, as servers require."""
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
