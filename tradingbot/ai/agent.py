"""An agent: a language model that calls tools until it has an answer.

run_ai_with_tools(
    system_prompt="You are a trading analyst.",
    user_message="Should we buy QQQ?",
    extra_tools=[kronos_forecast],
)
"""

import contextvars
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
)
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool, tool

from tradingbot.ai.bot_tools import bot_tools
from tradingbot.ai.provider import chat_model
from tradingbot.bots.bot import Bot
from tradingbot.errors import AIError, ConfigError
from tradingbot.runtime.concurrency import Result, in_background
from tradingbot.runtime.lookahead import refuse_in_backtest
from tradingbot.settings import default_timeouts

logger = logging.getLogger(__name__)

LAST_STEP = "No further tool can be called. Answer now with what you know."


def run_ai_with_tools(
    system_prompt: str,
    user_message: str,
    extra_tools: Sequence[BaseTool | Callable[..., Any]] = (),
    *,
    model: BaseChatModel | str | None = None,
    bot: Bot | None = None,
    max_steps: int = 8,
) -> str:
    """Ask a language model, let it call tools, return its final text.

    `model` is any LangChain chat model that can call tools, or a model's name; without one the
    environment decides (see `tradingbot.ai.provider`). With a `bot` the model can read that
    bot's portfolio and trades, prices and stored forecasts, and write nothing. The tools of one
    answer run at the same time. A tool's error is passed to the model, and so is the fact that a
    tool takes longer than three minutes. The model is asked at most `max_steps` times, the last
    time for its answer alone, and has ten minutes each time (`ai_tool` and `ai_answer` of
    `tradingbot.settings.Timeouts`).

    ConfigError when a name, key or package is missing, or the model cannot call tools; AIError
    when it is out of reach, refuses, takes too long, or gives no answer in `max_steps`; ValueError
    for `max_steps` below 1 and for what is no tool. What a model that you pass raises is raised as
    it is.
    """
    refuse_in_backtest("a language model")
    if max_steps < 1:
        raise ValueError(f"max_steps={max_steps}: expected at least 1")
    tools = _by_name([*([] if bot is None else bot_tools(bot)), *extra_tools])
    ask = _asker(model, tools)
    messages: list[BaseMessage] = [SystemMessage(system_prompt), HumanMessage(user_message)]
    for step in range(1, max_steps + 1):
        if step == max_steps and max_steps > 1:
            messages.append(HumanMessage(LAST_STEP))
        answer = _in_time(ask, messages)
        messages.append(answer)
        calls = [*answer.tool_calls, *answer.invalid_tool_calls]
        if not calls:
            text = answer.text.strip()
            if not text:
                raise AIError(f"the language model gave an empty answer in step {step}")
            return text
        if step < max_steps:
            messages += _results(answer, tools)
    raise AIError(
        f"the language model gave no answer in max_steps={max_steps}; at last it wanted to call "
        + ", ".join(str(call["name"]) for call in calls)
    )


def _by_name(given: Sequence[BaseTool | Callable[..., Any]]) -> dict[str, BaseTool]:
    """Plain functions become tools; a later tool replaces an earlier one of its name."""
    for one in given:
        if not isinstance(one, BaseTool) and not callable(one):
            raise ValueError(f"extra_tools has {one!r}: expected a list of tools and functions")
    tools = (one if isinstance(one, BaseTool) else tool(one) for one in given)
    return {one.name: one for one in tools}


def _asker(
    model: BaseChatModel | str | None, tools: Mapping[str, BaseTool]
) -> Callable[[list[BaseMessage]], AIMessage]:
    """How to put a conversation to the model."""
    if model is not None and not isinstance(model, str):
        if not isinstance(model, Runnable):
            raise ConfigError(f"model={model!r}: expected a chat model of LangChain's, or a name")
        try:
            return (model.bind_tools(list(tools.values())) if tools else model).invoke
        except (NotImplementedError, AttributeError) as error:
            raise ConfigError(
                f"the chat model {type(model).__name__} cannot call tools (bind_tools); "
                "pass one that can, or none of extra_tools and bot"
            ) from error
    ours = chat_model(model)
    with_tools = ours.bind_tools(list(tools.values())) if tools else ours
    from openai import OpenAIError

    def ask(messages: list[BaseMessage]) -> AIMessage:
        try:
            return with_tools.invoke(messages)
        except OpenAIError as error:
            where = f"{ours.model_name} at {ours.openai_api_base}"  # type: ignore[attr-defined]
            raise AIError(f"the language model {where}: {_said(error)}") from error

    return ask


def _in_time(
    ask: Callable[[list[BaseMessage]], AIMessage], messages: list[BaseMessage]
) -> AIMessage:
    """The model's answer; whatever it raises. It may be one without a time-out of its own."""
    answer = _in_background(lambda: ask(messages))
    seconds = default_timeouts().ai_answer
    wait([answer], seconds)
    if not answer.done():
        raise AIError(f"the language model gave no answer within {seconds:g} s")
    return answer.result()


def _said(error: Exception) -> str:
    """One line: what the server answered, or why it could not be asked."""
    root: BaseException = error
    if not hasattr(error, "status_code"):  # "Connection error." alone says too little
        while root.__cause__ or root.__context__:
            root = root.__cause__ or root.__context__ or root
    return " ".join(f"{type(root).__name__}: {root}".split())[:300]


def _results(answer: AIMessage, tools: Mapping[str, BaseTool]) -> list[ToolMessage]:
    """What the called tools say, in the order of the calls: a result or an error for each."""
    calls = answer.tool_calls
    futures = [_in_background(partial(_result, call, tools)) for call in calls]
    seconds = default_timeouts().ai_tool
    done, _ = wait(futures, seconds)
    late = f"Error: no answer within {seconds:g} s. Go on without it."
    results = [
        future.result() if future in done else _error(call["name"], call["id"], late)
        for call, future in zip(calls, futures, strict=True)
    ]
    return results + [
        _error(call["name"], call["id"], f"Error: the arguments cannot be read: {call['error']}")
        for call in answer.invalid_tool_calls
    ]


def _in_background(work: Callable[[], Result]) -> Future[Result]:
    """As `in_background`, in a copy of the caller's context, which LangChain's tracing reads."""
    return in_background(partial(contextvars.copy_context().run, work))


def _result(call: ToolCall, tools: Mapping[str, BaseTool]) -> ToolMessage:
    if call["name"] not in tools:
        known = ", ".join(tools) or "none"
        return _error(call["name"], call["id"], f"Error: no such tool. There are: {known}.")
    try:
        message = tools[call["name"]].invoke({**call, "type": "tool_call"})
    except (
        Exception,
        SystemExit,
    ) as error:  # whatever a tool raises, the model is the one to act on it
        logger.warning("the tool %s failed: %s: %s", call["name"], type(error).__name__, error)
        return _error(call["name"], call["id"], f"Error: {type(error).__name__}: {error}")
    if isinstance(message, ToolMessage):
        return message
    return ToolMessage(str(message), name=call["name"], tool_call_id=call["id"] or "")


def _error(name: str | None, call_id: str | None, text: str) -> ToolMessage:
    return ToolMessage(text, name=name, tool_call_id=call_id or "", status="error")
