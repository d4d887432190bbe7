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
    """Ask a language model, let it call tools, return its final text.

    `model` is any LangChain chat model that can call tools, or a model's name; without one the
    environment decides (see `tradingbot.ai.provider`). With a `bot` the model can read that
    bot's portfolio and trades, prices and stored forecasts, and write nothing. The tools of one
    answer run at the same time, 32 of them at most. A tool's error is passed to the model, and so
    is the fact that a tool takes longer than three minutes; of a long result it is given the
    first 30,000 characters. The model is asked at most `max_steps` times, the last time for its
    answer alone, and has ten minutes each time (`ai_tool` and `ai_answer` of
    `tradingbot.settings.Timeouts`).

    `on_text` is called with each piece of the model's text as it arrives, in this thread. What a
    model says before it calls tools is passed too, followed by an empty line; the text that is
    returned is the last answer alone.

    ConfigError when a name, key or package is missing, or the model cannot call tools; AIError
    when it is out of reach, refuses, takes too long, is cut off, or gives no answer in
    `max_steps`; ValueError for `max_steps` below 1 and for what is no tool. What a model that you
    pass raises is raised as it is.
    """
    talk, chat, tools = _begin(system_prompt, user_message, extra_tools, model, bot, max_steps)
    while True:
        answer = chat.answer(talk.messages, on_text)
        text = talk.hear(answer)
        if text is not None:
            return text
        if on_text is not None and answer.text:
            on_text("\n\n")
        talk.tell(tools.run(talk.calls))


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
    """`run_ai_with_tools`, awaited.

    The model's and the tools' coroutines run in the caller's event loop, and are cancelled with
    it; what has none runs in a thread. `on_text` may be a coroutine function.
    """
    talk, chat, tools = _begin(system_prompt, user_message, extra_tools, model, bot, max_steps)
    while True:
        answer = await chat.answer_async(talk.messages, on_text)
        text = talk.hear(answer)
        if text is not None:
            return text
        if on_text is not None and answer.text:
            await awaited(on_text("\n\n"))
        talk.tell(await tools.run_async(talk.calls))


def _begin(
    system_prompt: str,
    user_message: str,
    extra_tools: Sequence[BaseTool | Callable[..., Any]],
    model: BaseChatModel | str | None,
    bot: Bot | None,
    max_steps: int,
) -> tuple[Conversation, Chat, ToolRuns]:
    refuse_in_backtest("a language model")
    talk = Conversation(system_prompt, user_message, max_steps)
    tools = as_tools([*([] if bot is None else bot_tools(bot)), *extra_tools])
    return talk, Chat(model, list(tools.values())), ToolRuns(tools)
