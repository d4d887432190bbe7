"""An agent: a language model that calls tools until it has an answer.

run_ai_with_tools(
    system_prompt="You are a trading analyst.",
    user_message="Should we buy QQQ?",
    extra_tools=[kronos_forecast],
)
"""

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool

from tradingbot.ai.bot_tools import bot_tools
from tradingbot.ai.chat import Chat, OnText, awaited
from tradingbot.ai.conversation import LAST_STEP, Conversation
from tradingbot.ai.tool_runs import ToolRuns, as_tools
from tradingbot.bots.bot import Bot
from tradingbot.runtime.lookahead import refuse_in_backtest

__all__ = ["LAST_STEP", "run_ai_with_tools", "run_ai_with_tools_async"]


def run_ai_with_tools(
    system_prompt: str,
    user_message: str,
    extra_tools: Sequence[BaseTool | Callable[..., Any]] = (),
    *,
    model: BaseChatModel | str | None = None,
    bot: Bot | None = None,
    max_steps: int = 8,
    on_text: OnText | None = None,
) -> str:
    """Ask a language model, run the tools that it calls, and return its final text.

    One answer may call at most 32 tools, which run concurrently. If a tool fails, the model gets
    the error. If a tool takes longer than three minutes, the model gets a message that says so. Of
    a long result, the model gets the first 30,000 characters. The model has ten minutes for each
    answer. `ai_tool` and `ai_answer` of `tradingbot.settings.Timeouts` set these times.

    Args:
        system_prompt: Instructions for the model.
        user_message: The question.
        extra_tools: Tools and plain functions that the model may call.
        model: A LangChain chat model that can call tools, or a model's name. By default the
            environment selects it (see `tradingbot.ai.provider`).
        bot: A bot whose portfolio, trades, prices and stored forecasts the model can read.
        max_steps: Maximum number of answers; the last answer may not call tools.
        on_text: Called in this thread with each piece of text as it arrives. The text includes what
            the model writes before tool calls, followed by an empty line. The return value is only
            the last answer.

    Raises:
        ConfigError: A name, key or package is missing, or the model cannot call tools.
        AIError: The model is out of reach, refuses, takes too long, is cut off, or gives no answer
            in `max_steps`. Errors of a model that you pass are raised unchanged.
        ValueError: `max_steps` is below 1, or an item of `extra_tools` is not a tool.
    """
    conversation, chat, tools = _begin(
        system_prompt, user_message, extra_tools, model, bot, max_steps
    )
    while True:
        answer = chat.answer(conversation.messages, on_text)
        text = conversation.add_answer(answer)
        if text is not None:
            return text
        if on_text is not None and answer.text:
            on_text("\n\n")
        conversation.add_results(tools.run(conversation.calls))


async def run_ai_with_tools_async(
    system_prompt: str,
    user_message: str,
    extra_tools: Sequence[BaseTool | Callable[..., Any]] = (),
    *,
    model: BaseChatModel | str | None = None,
    bot: Bot | None = None,
    max_steps: int = 8,
    on_text: OnText | None = None,
) -> str:
    """Do the same as `run_ai_with_tools`, asynchronously.

    Coroutines of the model and the tools run in the caller's event loop. They are cancelled when
    the caller's task is cancelled. Synchronous code runs in a thread. `on_text` may be a coroutine
    function.
    """
    conversation, chat, tools = _begin(
        system_prompt, user_message, extra_tools, model, bot, max_steps
    )
    while True:
        answer = await chat.answer_async(conversation.messages, on_text)
        text = conversation.add_answer(answer)
        if text is not None:
            return text
        if on_text is not None and answer.text:
            await awaited(on_text("\n\n"))
        conversation.add_results(await tools.run_async(conversation.calls))


def _begin(
    system_prompt: str,
    user_message: str,
    extra_tools: Sequence[BaseTool | Callable[..., Any]],
    model: BaseChatModel | str | None,
    bot: Bot | None,
    max_steps: int,
) -> tuple[Conversation, Chat, ToolRuns]:
    refuse_in_backtest("a language model")
    conversation = Conversation(system_prompt, user_message, max_steps)
    tools = as_tools([*([] if bot is None else bot_tools(bot)), *extra_tools])
    return conversation, Chat(model, list(tools.values())), ToolRuns(tools)
