"""An agent that reads Kronos' forecasts before it answers.

python examples/agent.py

Offline, the class `Rehearsed` below replaces the language model. To use a real one, set
KRONOS_AI_MODEL, and OPENROUTER_API_KEY or OPENAI_API_KEY: pip install langchain-openai.
"""

import os

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from tradingbot import kronos_forecast, run_ai_with_tools
from tradingbot.space.local import local_space


class Rehearsed(BaseChatModel):
    """Requests two forecasts at once, then returns their texts."""

    @property
    def _llm_type(self):
        return "rehearsed"

    def bind_tools(self, tools, **kwargs):
        return self

    def _generate(self, messages, *args, **kwargs):
        results = [message.content for message in messages if message.type == "tool"]
        calls = [
            {"name": "kronos_forecast", "args": {"symbol": symbol, "horizon": 3}, "id": symbol}
            for symbol in ("AAPL", "IBM")
        ]
        answer = AIMessage("", tool_calls=calls) if not results else AIMessage("\n\n".join(results))
        return ChatResult(generations=[ChatGeneration(message=answer)])


os.environ.setdefault("KRONOS_DATA_SOURCE", "sample")
with local_space() as os.environ["KRONOS_SPACE_URL"]:
    answer = run_ai_with_tools(
        system_prompt="You are a trading analyst. Use Kronos forecasts to inform your decision.",
        user_message="Which looks better for the next three days, AAPL or IBM?",
        extra_tools=[kronos_forecast],
        model=None if os.environ.get("KRONOS_AI_MODEL") else Rehearsed(),
    )
print(answer)
