"""The asynchronous agent, coroutine tools, and streamed text."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatResult
from langchain_core.tools import BaseTool, StructuredTool, tool

from tests.support.openai_server import ReceivedRequests, Stream, streamed, text_answer, tool_calls
from tests.unit.ai.test_agent import Scripted, ask, double, results, wants
from tradingbot.ai.agent import run_ai_with_tools, run_ai_with_tools_async
from tradingbot.errors import AIError
from tradingbot.runtime.event_loop import wait_for
from tradingbot.settings import Timeouts, use_timeouts

pytestmark = pytest.mark.integration

Serve = Callable[..., ReceivedRequests]


def ask_awaited(model: Any, *tools: Any, **options: Any) -> str:
    return asyncio.run(run_ai_with_tools_async("", "Buy?", tools, model=model, **options))


BOTH = [ask, ask_awaited]


async def fetch(name: str) -> str:
    """Fetch a name."""
    await asyncio.sleep(0)
    return f"<{name}>"


class ClassTool(BaseTool):
    """A tool as other libraries write them: the synchronous method raises."""

    name: str = "fetch"
    description: str = "Fetch a name."

    def _run(self, name: str) -> str:
        raise NotImplementedError("only async")

    async def _arun(self, name: str) -> str:
        return await fetch(name)


class McpTool:
    """A tool like those of langchain-mcp-adapters: JSON schema, content blocks and an artifact."""

    def __new__(cls) -> Any:
        async def call(**arguments: Any) -> tuple[list[dict[str, str]], dict[str, Any]]:
            return [{"type": "text", "text": await fetch(arguments["name"])}], {"raw": 1}

        schema = {"type": "object", "properties": {"name": {"type": "string"}}}
        return StructuredTool(
            name="fetch", description="Fetch.", args_schema=schema, coroutine=call,
            response_format="content_and_artifact",
        )  # fmt: skip


@pytest.mark.parametrize("run", BOTH)
@pytest.mark.parametrize("made", [lambda: fetch, lambda: tool(fetch), ClassTool, McpTool])
def test_tools_that_are_only_asynchronous_are_run(run: Any, made: Callable[[], Any]) -> None:
    model = Scripted(
        answers=[wants(("fetch", {"name": "a"}), ("double", {"number": 2})), AIMessage("ok")]
    )
    assert run(model, made(), double) == "ok"
    (status, first), second = results(model)
    assert (status, second) == ("success", ("success", "4"))
    assert "<a>" in first


@pytest.mark.parametrize("run", BOTH)
def test_asynchronous_tools_run_at_the_same_time_in_one_loop(run: Any) -> None:
    loops = set()
    both = asyncio.Barrier(2)

    async def meet(name: str) -> str:
        """Waits for the other."""
        loops.add(asyncio.get_running_loop())
        await both.wait()
        return name

    pair = wants(("meet", {"name": "a"}), ("meet", {"name": "b"}))
    model = Scripted(answers=[pair, pair, AIMessage("ok")])
    assert run(model, meet) == "ok"
    assert results(model) == [("success", "a"), ("success", "b")] * 2
    assert len(loops) == 1


def test_two_conversations_share_what_a_tool_keeps_open() -> None:
    """A connection pool belongs to the event loop in which it was created."""
    loops = set()

    async def where() -> str:
        """Where am I."""
        loops.add(asyncio.get_running_loop())
        return "here"

    for _ in range(2):
        ask(Scripted(answers=[wants(("where", {})), AIMessage("ok")]), where)
    assert len(loops) == 1
    assert loops.pop().is_running()


@pytest.mark.parametrize("run", BOTH)
@use_timeouts(Timeouts(ai_tool=0.3))
def test_an_asynchronous_tool_that_hangs_is_cancelled(run: Any) -> None:
    cancelled = threading.Event()

    async def hang() -> str:
        """Never answers."""
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return ""

    model = Scripted(answers=[wants(("hang", {}), ("double", {"number": 1})), AIMessage("ok")])
    assert run(model, hang, double) == "ok"
    late, other = results(model)
    assert late == ("error", "Error: no answer within 0.3 s. Continue without it.")
    assert other == ("success", "2")
    assert cancelled.wait(10)


@pytest.mark.parametrize("run", BOTH)
@pytest.mark.parametrize(
    ("raised", "says_"),
    [
        (OSError("the line is dead"), "Error: OSError: the line is dead"),
        (ExceptionGroup("in a TaskGroup", [OSError("dead")]), "Error: OSError: dead"),
        (asyncio.CancelledError(), "Error: CancelledError"),
    ],
)
def test_errors_of_a_coroutine_go_back_to_the_model(
    run: Any, raised: BaseException, says_: str
) -> None:
    async def broken() -> str:
        """Always fails."""
        raise raised

    model = Scripted(answers=[wants(("broken", {})), AIMessage("I cannot say.")])
    assert run(model, broken) == "I cannot say."
    [(status, message)] = results(model)
    assert (status, message[: len(says_)]) == ("error", says_)


def test_an_event_loop_blocked_by_a_tool_is_replaced() -> None:
    release = threading.Event()

    async def block() -> None:
        release.wait(30)

    with pytest.raises(TimeoutError):
        wait_for(block, 0.1)

    async def answer() -> int:
        return 7

    assert wait_for(answer, 10) == 7
    release.set()


def test_the_synchronous_agent_runs_inside_of_a_running_loop() -> None:
    async def program() -> str:
        model = Scripted(answers=[wants(("fetch", {"name": "a"})), AIMessage("ok")])
        return ask(model, fetch)

    assert asyncio.run(program()) == "ok"


@pytest.mark.parametrize("run", BOTH)
def test_tools_see_the_callers_context(run: Any) -> None:
    account = contextvars.ContextVar("account", default="nobody")

    async def whose() -> str:
        """Whose account."""
        return account.get()

    def whose_too() -> str:
        """Whose account."""
        return account.get()

    def program() -> None:
        account.set("mine")
        model = Scripted(answers=[wants(("whose", {}), ("whose_too", {})), AIMessage("ok")])
        run(model, whose, whose_too)
        assert results(model) == [("success", "mine")] * 2

    contextvars.copy_context().run(program)


def test_an_asynchronous_custom_model_is_awaited() -> None:
    threads = set()

    class Awaitable(Scripted):
        async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
            threads.add(threading.get_ident())
            return self._generate(messages)

    assert ask_awaited(Awaitable(answers=[AIMessage("Hold.")])) == "Hold."
    assert threads == {threading.get_ident()}
    assert ask_awaited(FakeListChatModel(responses=["Hold."])) == "Hold."


@use_timeouts(Timeouts(ai_answer=0.2))
def test_a_hanging_awaited_model_is_abandoned() -> None:
    class Hangs(Scripted):
        async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
            await asyncio.sleep(60)
            raise AssertionError

    with pytest.raises(AIError, match=r"no answer within 0.2 s"):
        ask_awaited(Hangs(answers=[]))


def test_cancelling_the_agent_cancels_its_tools() -> None:
    async def program() -> bool:
        begun, cancelled = asyncio.Event(), asyncio.Event()

        async def hang() -> str:
            """Never answers."""
            begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                cancelled.set()
            return ""

        model = Scripted(answers=[wants(("hang", {})), AIMessage("ok")])
        agent = asyncio.create_task(run_ai_with_tools_async("", "", [hang], model=model))
        await begun.wait()
        agent.cancel()
        with pytest.raises(asyncio.CancelledError):
            await agent
        await asyncio.wait_for(cancelled.wait(), 10)
        return True

    assert asyncio.run(program())


# streaming --------------------------------------------------------------------------------


def streamed_call(name: str, arguments: dict[str, Any], before: str = "") -> Stream:
    [call] = tool_calls((name, arguments))["tool_calls"]
    pieces = [{"content": before}] if before else []
    return Stream([*pieces, {"tool_calls": [{"index": 0, **call}]}], "tool_calls")


def test_text_arrives_while_the_model_is_still_generating(served: Serve) -> None:
    heard = threading.Event()
    asked = served(streamed_call("double", {"number": 2}), streamed("Fo", heard, "ur", "."))
    pieces: list[str] = []
    threads = set()

    def on_text(piece: str) -> None:
        pieces.append(piece)
        threads.add(threading.get_ident())
        heard.set()  # the server waits for this event

    assert run_ai_with_tools("", "Twice two?", [double], on_text=on_text) == "Four."
    assert pieces == ["Fo", "ur", "."]
    assert threads == {threading.get_ident()}
    assert asked.bodies[-1]["stream"] is True


def test_the_callback_for_text_may_be_asynchronous(served: Serve) -> None:
    served(streamed("Fo", "ur."))
    pieces: list[str] = []

    async def on_text(piece: str) -> None:
        await asyncio.sleep(0)
        pieces.append(piece)

    assert ask_awaited(None, on_text=on_text) == "Four."
    assert pieces == ["Fo", "ur."]


@pytest.mark.parametrize("run", BOTH)
def test_text_before_a_tool_call_is_separated_from_the_answer(served: Serve, run: Any) -> None:
    served(streamed_call("double", {"number": 2}, before="Let me see."), streamed("Four."))
    pieces: list[str] = []
    assert run(None, double, on_text=pieces.append) == "Four."
    assert pieces == ["Let me see.", "\n\n", "Four."]


@pytest.mark.parametrize("run", BOTH)
def test_a_server_without_streaming_gives_the_whole_answer(served: Serve, run: Any) -> None:
    asked = served(text_answer("Hold."))
    pieces: list[str] = []
    assert run(None, on_text=pieces.append) == "Hold."
    assert pieces == ["Hold."]
    assert len(asked.bodies) == 2


@pytest.mark.parametrize("run", BOTH)
def test_an_exception_in_on_text_ends_the_conversation(served: Serve, run: Any) -> None:
    served(streamed("Fo", "ur."))

    def full(piece: str) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        run(None, on_text=full)


@pytest.mark.parametrize("run", BOTH)
def test_a_chat_model_without_streaming_gives_one_piece(run: Any) -> None:
    pieces: list[str] = []
    assert run(Scripted(answers=[AIMessage("Hold.")]), on_text=pieces.append) == "Hold."
    assert pieces == ["Hold."]


def test_a_custom_chat_model_can_stream() -> None:
    class Streams(FakeListChatModel):
        async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
            for chunk in self._stream(*args, **kwargs):
                yield chunk

    pieces: list[str] = []
    assert ask_awaited(Streams(responses=["Hold."]), on_text=pieces.append) == "Hold."
    assert pieces == list("Hold.")


class ForeignException(BaseException):
    """An exception that is neither a subclass of Exception nor one of Python's own."""


@pytest.mark.parametrize("asking", BOTH)
@pytest.mark.parametrize("way", ["function", "coroutine", "class"])
@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        asyncio.CancelledError(),
        GeneratorExit(),
        ForeignException("odd"),
        BaseExceptionGroup("", [OSError()]),
        BaseExceptionGroup("", [ForeignException("odd")]),
    ],
)
def test_any_exception_of_a_tool_becomes_an_error_for_the_model(
    asking: Callable[..., str], way: str, error: BaseException
) -> None:
    if way != "function" and isinstance(error, asyncio.CancelledError | GeneratorExit):
        return  # asyncio uses these exceptions to end a coroutine

    def raises() -> str:
        """Raise."""
        raise error

    async def awaited() -> str:
        """Raise."""
        raise error

    class Raises(BaseTool):
        name: str = "raises"
        description: str = "Raise."

        def _run(self) -> str:
            raise NotImplementedError

        async def _arun(self) -> str:
            raise error

    schema = {
        "function": tool("raises")(raises),
        "coroutine": StructuredTool.from_function(coroutine=awaited, name="raises"),
        "class": Raises(),
    }[way]
    model = Scripted(answers=[wants(("raises", {}), ("double", {"number": 2})), AIMessage("ok")])
    assert asking(model, schema, double) == "ok"
    (status, message), good = results(model)
    assert (status, good) == ("error", ("success", "4"))
    assert message.startswith("Error: ")


def test_the_shared_loop_survives_a_coroutine_that_raises_system_exit() -> None:
    async def ends() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wait_for(ends, 60)
    assert wait_for(lambda: fetch("next"), 60) == "<next>"
