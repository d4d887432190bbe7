"""The tool loop, with a scripted model and with the real client over HTTP."""

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from sqlalchemy import text

from tests.support.market import Market, ScriptedBot, flat_forecast
from tests.support.openai_server import openai_server, text_answer, tool_calls
from tradingbot.ai.agent import LAST_STEP, run_ai_with_tools
from tradingbot.ai.provider import chat_model
from tradingbot.errors import AIError, ConfigError
from tradingbot.persistence.engine import get_db_session, get_engine
from tradingbot.persistence.forecasts import store_forecasts
from tradingbot.settings import Timeouts, use_timeouts


class Scripted(BaseChatModel):
    """A model with scripted answers that records its input."""

    answers: list[AIMessage]
    asked: list[list[BaseMessage]] = []  # noqa: RUF012 - a field of pydantic's, one an instance
    tools: list[str] = []  # noqa: RUF012

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Any:
        self.tools += [item.name for item in tools]
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        self.asked.append(list(messages))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return ChatResult(generations=[ChatGeneration(message=answer)])


def wants(*tools: tuple[str, dict[str, Any]]) -> AIMessage:
    return AIMessage(
        "",
        tool_calls=[
            {"name": name, "args": arguments, "id": f"call_{number}", "type": "tool_call"}
            for number, (name, arguments) in enumerate(tools)
        ],
    )


def results(model: Scripted, step: int = -1) -> list[tuple[str, str]]:
    """Return the tool results in the model's last input."""
    return [
        (message.status, str(message.content))
        for message in model.asked[step]
        if isinstance(message, ToolMessage)
    ]


@tool
def double(number: int) -> str:
    """Twice the number."""
    return str(2 * number)


@tool
def broken() -> str:
    """Always fails."""
    raise OSError("the line is dead")


def ask(model: Any, *tools: Any, **options: Any) -> str:
    return run_ai_with_tools("You are an analyst.", "Buy?", tools, model=model, **options)


# the loop ---------------------------------------------------------------------------------


def test_without_tools_the_models_answer_is_returned() -> None:
    model = Scripted(answers=[AIMessage(" Hold. ")])
    assert ask(model) == "Hold."
    [messages] = model.asked
    assert messages[0] == SystemMessage("You are an analyst.")
    assert messages[1].content == "Buy?"


@pytest.mark.integration
def test_tools_are_called_until_there_is_an_answer() -> None:
    model = Scripted(
        answers=[
            wants(("double", {"number": 2})),
            wants(("double", {"number": 4})),
            AIMessage("Eight."),
        ]
    )
    assert ask(model, double) == "Eight."
    assert results(model) == [("success", "4"), ("success", "8")]
    assert model.tools == ["double"]


@pytest.mark.integration
def test_the_tools_of_one_answer_run_at_the_same_time_and_answer_in_order() -> None:
    both = threading.Barrier(2, timeout=10)

    @tool
    def meet(name: str) -> str:
        """Waits for the other."""
        both.wait()
        return name

    model = Scripted(
        answers=[wants(("meet", {"name": "a"}), ("meet", {"name": "b"})), AIMessage("ok")]
    )
    ask(model, meet)
    assert results(model) == [("success", "a"), ("success", "b")]


@pytest.mark.integration
def test_the_error_of_a_failing_tool_goes_back_to_the_model() -> None:
    first = wants(("broken", {}), ("unknown", {}), ("double", {"number": "two"}), ("double", {}))
    model = Scripted(answers=[first, AIMessage("I cannot say.")])
    assert ask(model, double, broken) == "I cannot say."
    dead, unknown, wrong, missing = results(model)
    assert dead == ("error", "Error: OSError: the line is dead")
    assert unknown == ("error", "Error: no such tool. There are: double, broken.")
    assert wrong[0] == missing[0] == "error"
    assert "valid integer" in wrong[1]
    assert "number" in missing[1]


@pytest.mark.integration
def test_invalid_json_arguments_go_back_to_the_model() -> None:
    odd = AIMessage(
        "",
        invalid_tool_calls=[
            {
                "name": "double",
                "args": "{number: two",
                "id": "call_9",
                "error": "not JSON",
                "type": "invalid_tool_call",
            }
        ],
    )
    model = Scripted(answers=[odd, AIMessage("ok")])
    assert ask(model, double) == "ok"
    assert results(model) == [("error", "Error: the arguments cannot be read: not JSON")]


@pytest.mark.integration
@use_timeouts(Timeouts(ai_tool=0.2))
def test_a_hanging_tool_is_abandoned() -> None:
    release = threading.Event()

    @tool
    def hang() -> str:
        """Never answers in time."""
        release.wait(30)
        return "too late"

    model = Scripted(answers=[wants(("hang", {}), ("double", {"number": 1})), AIMessage("ok")])
    assert ask(model, hang, double) == "ok"
    release.set()
    assert results(model) == [
        ("error", "Error: no answer within 0.2 s. Continue without it."),
        ("success", "2"),
    ]


@pytest.mark.integration
def test_the_model_is_warned_of_its_last_step_before_the_agent_stops() -> None:
    endless = Scripted(answers=[wants(("double", {"number": 1}))])
    with pytest.raises(AIError, match="no answer in max_steps=3; its last answer calls double"):
        ask(endless, double, max_steps=3)
    assert len(endless.asked) == 3
    assert endless.asked[-1][-1].content == LAST_STEP
    obedient = Scripted(answers=[wants(("double", {"number": 1})), AIMessage("Fine.")])
    assert ask(obedient, double, max_steps=2) == "Fine."


def test_an_empty_answer_is_an_error_and_zero_steps_are_refused() -> None:
    with pytest.raises(AIError, match="an empty answer in step 1"):
        ask(Scripted(answers=[AIMessage("  ")]))
    with pytest.raises(ValueError, match="max_steps=0: expected at least 1"):
        ask(Scripted(answers=[AIMessage("ok")]), max_steps=0)


def test_a_plain_function_can_be_a_tool() -> None:
    def triple(number: int) -> int:
        """Three times the number."""
        return 3 * number

    model = Scripted(answers=[wants(("triple", {"number": 2})), AIMessage("Six.")])
    assert ask(model, triple) == "Six."
    assert results(model) == [("success", "6")]


def test_exceptions_of_a_custom_model_are_raised_unchanged() -> None:
    class Out(Scripted):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            raise ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        ask(Out(answers=[]))


@use_timeouts(Timeouts(ai_answer=0.2))
def test_a_hanging_custom_model_is_abandoned() -> None:
    release = threading.Event()

    class Hangs(Scripted):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            release.wait(30)
            return super()._generate(*args, **kwargs)

    with pytest.raises(AIError, match=r"gave no answer within 0.2 s"):
        ask(Hangs(answers=[AIMessage("too late")]))
    release.set()


@pytest.mark.integration
def test_a_model_that_cannot_call_tools_is_a_one_line_error() -> None:
    model = FakeListChatModel(responses=["Hold."])
    assert ask(model) == "Hold.", "without tools it will do"
    with pytest.raises(ConfigError, match=r"the chat model FakeListChatModel cannot call tools"):
        ask(model, double)
    with pytest.raises(ConfigError, match=r"model=5: expected a chat model of LangChain's, or a n"):
        ask(5, double)


@pytest.mark.integration
@pytest.mark.parametrize("given", [double, ["double"], "double"])
def test_an_invalid_list_of_tools_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match=r"extra_tools has .*: expected a list of tools"):
        run_ai_with_tools("", "", given, model=Scripted(answers=[AIMessage("ok")]))


@pytest.mark.integration
def test_a_tool_that_exits_and_a_call_without_a_name_become_errors_for_the_model() -> None:
    def leave() -> str:
        """Ends the process, or tries to."""
        raise SystemExit(3)

    first = wants(("leave", {}), ("double", {"number": 2}))
    first.tool_calls[1]["id"] = None
    model = Scripted(answers=[first, AIMessage("ok")])
    assert ask(model, leave, double) == "ok"
    assert results(model) == [("error", "Error: SystemExit: 3"), ("success", "4")]


# what a bot lets a model read -------------------------------------------------------------


@pytest.fixture
def market(tmp_path: Path) -> Market:
    market = Market(tmp_path / "candles", today=datetime(2024, 5, 15))
    market.write("AAPL", [98.0, 99.0, 101.0, 100.0])
    market.write("IBM", [50.0, 50.0])
    return market


def everything(database: str) -> list[Any]:
    with get_engine(database).connect() as connection:
        tables = ("bots", "trades", "run_logs", "kronos_predictions", "kronos_forecasts")
        return [connection.execute(text(f"SELECT * FROM {table}")).all() for table in tables]


def read_all(bot: Any) -> list[str]:
    model = Scripted(
        answers=[
            wants(
                ("portfolio", {}),
                ("recent_trades", {"count": 5}),
                ("price_history", {"symbol": "aapl", "bars": 2}),
                ("stored_forecasts", {"symbol": "aapl"}),
                ("price_history", {"symbol": "Apple"}),
                ("stored_forecasts", {"symbol": "IBM"}),
            ),
            AIMessage("ok"),
        ]
    )
    assert ask(model, bot=bot) == "ok"
    assert model.tools == ["price_history", "portfolio", "recent_trades", "stored_forecasts"]
    found = results(model)
    assert [status for status, _ in found] == ["success"] * 6
    return [content for _, content in found]


def test_a_model_can_read_a_bot_but_not_change_it(market: Market, database: str) -> None:
    bot = market.bot(ScriptedBot, database, tickers=["AAPL", "IBM"], answers={"AAPL": 1})
    bot.run()
    numbers = {"last_close": 100.0, "close": 103.0, "low": 99.0, "high": 107.0, "prob_up": 0.8}
    with get_db_session(database) as session:
        store_forecasts(session, [flat_forecast("AAPL", market.today, **numbers)])
    before = everything(database)
    portfolio, trades, prices, forecast, unknown, none = read_all(bot)
    assert everything(database) == before
    assert portfolio.splitlines() == [
        "USD 0.00 in cash",
        "AAPL: 99.95 held, worth 9995.00 USD at the close of Wed 2024-05-15, 100.00",
        "IBM: none held, watched",
    ]
    assert trades == "2024-05-15 20:00 UTC: buy 99.95 AAPL at 100.00, costs 5.00"
    assert prices.splitlines() == [
        "AAPL, 1d bars, the newest last.",
        "Tue 2024-05-14: 99.00 101.00 99.00 101.00 volume 1000",
        "Wed 2024-05-15: 101.00 101.00 100.00 100.00 volume 1000",
    ]
    assert "Thu 2024-05-16: 103.00 (+3.0%), 99.00 to 107.00, 80%" in forecast
    assert unknown.startswith("No prices: APPLE: no file APPLE.csv")
    assert none == "No forecast of IBM that lies ahead is stored."


def test_changes_of_a_position_without_a_trade_are_reported_as_such(
    market: Market, database: str
) -> None:
    bot = market.bot(ScriptedBot, database, tickers=["AAPL", "IBM"], answers={"AAPL": 1})
    bot.run()
    market.write("AAPL", [9.8, 9.9, 10.1, 10.0])  # ten for one
    bot = market.bot(ScriptedBot, database, tickers=["AAPL", "IBM"], answers={})
    bot.run()
    trades = read_all(bot)[1].splitlines()
    assert trades[0].endswith(": buy 999.5 AAPL at 10.00, costs 0.00 (split)")
    assert trades[1].endswith(": sell 99.95 AAPL at 100.00, costs 0.00 (split)")


def test_a_bot_that_has_never_run_can_be_read(market: Market, database: str) -> None:
    bot = market.bot(ScriptedBot, database, tickers=["AAPL", "IBM"], answers={})
    portfolio, trades, *_ = read_all(bot)
    assert (portfolio, trades) == ("USD 10000.00 in cash", "No trades yet.")


# over HTTP --------------------------------------------------------------------------------


@pytest.mark.integration
def test_the_real_client_runs_the_loop_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        tool_calls(("double", {"number": 2}), ("double", "{number"), ("nothing", {})),
        text_answer("Four."),
    )
    with openai_server(*script) as (url, asked):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("KRONOS_AI_MODEL", "some/model")
        assert ask(None, double) == "Four."
        assert ask("another/model") == "Four."
    first, second, third = asked.bodies
    assert (first["model"], third["model"]) == ("some/model", "another/model")
    assert set(asked.keys) == {"sk-test"}
    assert [item["function"]["name"] for item in first["tools"]] == ["double"]
    assert not first.get("stream")
    assert "tools" not in third
    tool_results = {
        message["tool_call_id"]: message["content"]
        for message in second["messages"]
        if message["role"] == "tool"
    }
    assert tool_results["call_0"] == "4"
    assert tool_results["call_1"].startswith("Error: the arguments cannot be read")
    assert tool_results["call_2"] == "Error: no such tool. There are: double."


@pytest.mark.parametrize(
    ("status", "requests", "says_"),
    [
        (401, 1, "OpenAIAuthenticationError: .*no, says 401"),
        (500, 2, "OpenAIAPIError: .*no, says 500"),
    ],
)
@use_timeouts(Timeouts(ai_retries=1))
def test_a_refusal_is_a_one_line_error_that_names_the_model_and_its_address(
    monkeypatch: pytest.MonkeyPatch, status: int, requests: int, says_: str
) -> None:
    with openai_server(status) as (url, asked):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        with pytest.raises(AIError, match=rf"some/model at {url}: {says_}") as error:
            ask("some/model")
    assert "\n" not in str(error.value)
    assert "sk-test" not in str(error.value)
    assert len(asked.bodies) == requests


@use_timeouts(Timeouts(ai_retries=0))
def test_an_unreachable_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with pytest.raises(AIError, match=r"http://127.0.0.1:9/v1: .*refused"):
        ask("some/model")


@use_timeouts(Timeouts(ai_retries=0, ai_request=0.3))
def test_a_silent_model_is_given_up_after_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    never = threading.Event()
    with openai_server(never) as (url, asked):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        with pytest.raises(AIError, match=r"some/model at .*[Tt]imed? ?out"):
            ask("some/model")
        never.set()
    assert len(asked.bodies) == 1


@pytest.mark.parametrize(
    ("environ", "url", "key"),
    [
        ({"OPENAI_API_KEY": "a"}, "https://api.openai.com/v1", "a"),
        ({"OPENROUTER_API_KEY": "r"}, "https://openrouter.ai/api/v1", "r"),
        ({"OPENROUTER_API_KEY": "r", "OPENAI_API_KEY": "a"}, "https://openrouter.ai/api/v1", "r"),
        (
            {"OPENAI_BASE_URL": "http://me:1/v1", "OPENROUTER_API_KEY": "r", "OPENAI_API_KEY": "a"},
            "http://me:1/v1", "a",
        ),
        (
            {"OPENAI_BASE_URL": "https://openrouter.ai/api/v1/", "OPENROUTER_API_KEY": "r"},
            "https://openrouter.ai/api/v1", "r",
        ),
    ],
)  # fmt: skip
def test_a_key_is_sent_only_to_its_own_address(environ: dict[str, str], url: str, key: str) -> None:
    model: Any = chat_model("some/model", environ)
    assert model.openai_api_base == url
    assert model.openai_api_key.get_secret_value() == key


@pytest.mark.parametrize(
    ("environ", "says_"),
    [
        ({}, "KRONOS_AI_MODEL is not set: name a model"),
        ({"KRONOS_AI_MODEL": "m"}, "there is no key for a language model: set OPENROUTER_API_KEY"),
        ({"KRONOS_AI_MODEL": "m", "OPENAI_API_KEY": "a\nb"}, "OPENAI_API_KEY has characters that"),
        (
            {"KRONOS_AI_MODEL": "m", "OPENAI_BASE_URL": "http://me:1", "OPENROUTER_API_KEY": "r"},
            "OPENAI_API_KEY is not set: http://me:1 requires a key",
        ),
        ({"KRONOS_AI_MODEL": "m", "OPENAI_BASE_URL": "me"}, "OPENAI_BASE_URL='me': expected"),
    ],
)
def test_a_missing_setting_is_a_one_line_error(environ: dict[str, str], says_: str) -> None:
    with pytest.raises(ConfigError, match=says_) as error:
        chat_model(None, environ)
    assert "\n" not in str(error.value)


@pytest.mark.integration
def test_without_the_extra_an_error_says_how_to_install_it() -> None:
    program = """
import sys
sys.modules["langchain_openai"] = None  # as if it were not installed
from tradingbot.utils.core import run_ai_with_tools
from tradingbot.errors import ConfigError
try:
    run_ai_with_tools("", "", model="m")
except ConfigError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"OPENAI_API_KEY": "a"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (
        "the package langchain-openai is missing: pip install 'langchain-openai>=1.7,<2', or "
        "pass a chat model as model=\n"
    )


def test_a_tool_accepts_unusual_spellings_of_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """The forecast tool runs inside the agent loop; unusual arguments get an answer in text."""
    from tradingbot.utils.core import kronos_forecast

    monkeypatch.setenv("KRONOS_DATA_SOURCE", "sample")
    first = wants(
        ("kronos_forecast", {"symbol": "Apple Inc.", "horizon": "5 days"}),
        ("kronos_forecast", {"symbol": "AAPL", "horizon": 10_000}),
    )
    model = Scripted(answers=[first, AIMessage("I will ask again.")])
    ask(model, kronos_forecast)
    name, horizon = results(model)
    assert "is not a ticker" in name[1]
    assert "whole number from 1 to 30" in horizon[1]
    assert json.dumps(name[1])
