"""Run the tools that a language model calls. Each call gets a result, even if it fails."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import cache, partial, wraps
from typing import Any

from langchain_core.messages import ToolCall, ToolMessage
from langchain_core.tools import BaseTool, StructuredTool, Tool, tool

from tradingbot.ai.conversation import error_message
from tradingbot.ai.sanitising import bounded, bounded_content, clean
from tradingbot.formatting import quoted
from tradingbot.runtime.concurrency import in_background
from tradingbot.runtime.event_loop import wait_for
from tradingbot.settings import default_timeouts

logger = logging.getLogger(__name__)

MAX_THREADS = 16  # per conversation, including those of tools that hang


def as_tools(given: Sequence[BaseTool | Callable[..., Any]]) -> dict[str, BaseTool]:
    """Return the tools by name.

    Functions become tools. A later tool replaces an earlier tool of the same name.
    """
    for item in given:
        if not isinstance(item, BaseTool) and not callable(item):
            raise ValueError(f"extra_tools has {item!r}: expected a list of tools and functions")
    tools = (item if isinstance(item, BaseTool) else tool(item) for item in given)
    return {item.name: _without_exit(item) for item in tools}


def _without_exit(original: BaseTool) -> BaseTool:
    """Return a copy of the tool whose coroutine cannot end the event loop with sys.exit().

    Return a tool without a coroutine unchanged.
    """
    if not _has_coroutine(original):
        return original
    copy = original.model_copy()
    copy.__class__ = _guarded(type(original))
    return copy


@cache
def _guarded(kind: type[BaseTool]) -> type[BaseTool]:
    @wraps(kind._arun)  # LangChain reads its signature
    async def run(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        try:
            return await kind._arun(self, *args, **kwargs)
        except (Exception, GeneratorExit, asyncio.CancelledError, KeyboardInterrupt):
            raise  # GeneratorExit, CancelledError and Ctrl-C end a coroutine in a regular way
        except BaseException as error:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error

    return type(kind.__name__, (kind,), {"_arun": run, "__module__": kind.__module__})


class ToolRuns:
    """The tools of one conversation. The calls of one answer run concurrently."""

    def __init__(self, tools: Mapping[str, BaseTool]) -> None:
        self._tools = tools
        self._free = threading.Semaphore(MAX_THREADS)
        self._free_async = asyncio.Semaphore(MAX_THREADS)

    def run(self, calls: Sequence[ToolCall]) -> list[ToolMessage]:
        """Run `calls` and return the results in their order, within `ai_tool` seconds."""
        seconds = default_timeouts().ai_tool
        deadline = time.monotonic() + seconds
        running = [self._begin(call, deadline) for call in calls]
        wait([future for future in running if future], max(0.0, deadline - time.monotonic()))
        return [
            future.result() if future and future.done() else _late(call, seconds)
            for call, future in zip(calls, running, strict=True)
        ]

    def _begin(self, call: ToolCall, deadline: float) -> Future[ToolMessage] | None:
        """Start a call in a thread. Return None if no thread becomes free in time."""
        if not self._free.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return None
        running = in_background(partial(_result, call, self._tools, deadline))
        running.add_done_callback(lambda _: self._free.release())
        return running

    async def run_async(self, calls: Sequence[ToolCall]) -> list[ToolMessage]:
        """Do the same as `run`, asynchronously.

        Tools with a coroutine run in the caller's event loop, and other tools in threads.
        """
        seconds = default_timeouts().ai_tool
        tasks = [asyncio.create_task(self._result_async(call)) for call in calls]
        try:
            done, _ = await asyncio.wait(tasks, timeout=seconds) if tasks else ((), ())
        finally:
            for task in tasks:
                task.cancel()
        return [
            _message_of(call, task) if task in done else _late(call, seconds)
            for call, task in zip(calls, tasks, strict=True)
        ]

    async def _result_async(self, call: ToolCall) -> ToolMessage:
        called = self._tools.get(call["name"])
        if called is None or not _has_coroutine(called):
            return await self._in_thread(partial(_result, call, self._tools, 0.0))
        try:
            return _message(call, await called.ainvoke(_request(call)))
        except Exception as error:
            return _failed(call, error)

    async def _in_thread(self, work: Callable[[], ToolMessage]) -> ToolMessage:
        await self._free_async.acquire()
        thread = asyncio.wrap_future(in_background(work))
        thread.add_done_callback(lambda _: self._free_async.release())
        return await asyncio.shield(thread)  # a tool that hangs keeps its slot


def _result(call: ToolCall, tools: Mapping[str, BaseTool], deadline: float) -> ToolMessage:
    """Run one tool in this thread.

    A tool that has only a coroutine, such as a tool from MCP, runs in the shared event loop.
    """
    called = tools.get(call["name"])
    if called is None:
        known = ", ".join(tools) or "none"
        return error_message(call, f"no such tool. There are: {known}.")
    request = _request(call)
    try:
        try:
            if not _only_coroutine(called):
                return _message(call, called.invoke(request))
        except NotImplementedError:  # raised by a custom tool that has only a coroutine
            if not _has_coroutine(called):
                raise
        return _message(
            call, wait_for(partial(called.ainvoke, request), deadline - time.monotonic())
        )
    except TimeoutError as error:
        if deadline <= time.monotonic():
            return _late(call, default_timeouts().ai_tool)
        return _failed(call, error)
    # Report every exception to the model. Ctrl-C is not lost, because it never reaches this thread.
    except BaseException as error:
        return _failed(call, error)


def _has_coroutine(checked: BaseTool) -> bool:
    if isinstance(checked, StructuredTool | Tool):
        return checked.coroutine is not None
    return type(checked)._arun is not BaseTool._arun


def _only_coroutine(checked: BaseTool) -> bool:
    return (
        isinstance(checked, StructuredTool | Tool)
        and checked.func is None
        and _has_coroutine(checked)
    )


def _request(call: ToolCall) -> ToolCall:
    return {**call, "type": "tool_call"}


def _message_of(call: ToolCall, done: asyncio.Task[ToolMessage]) -> ToolMessage:
    if done.cancelled():  # the tool itself cancelled the task
        return _failed(call, asyncio.CancelledError("it was cancelled"))
    return done.result()


def _message(call: ToolCall, result: Any) -> ToolMessage:
    """Return the result as a message of limited length that answers this call."""
    message = (
        result
        if isinstance(result, ToolMessage)
        else ToolMessage(str(result), name=call["name"], tool_call_id="")
    )
    return message.model_copy(
        update={"content": bounded_content(message.content), "tool_call_id": call["id"]}
    )


def _failed(call: ToolCall, error: BaseException) -> ToolMessage:
    while isinstance(error, BaseExceptionGroup):  # the text of a task group's error names no cause
        error = error.exceptions[0]
    kind = type(error).__name__
    logger.warning("the tool %s failed: %s: %s", quoted(call["name"]), kind, quoted(error))
    return error_message(call, bounded(clean(f"{kind}: {error}")))


def _late(call: ToolCall, seconds: float) -> ToolMessage:
    return error_message(call, f"no answer within {seconds:g} s. Continue without it.")
