"""Send a conversation to a language model and receive its answer.

Requests are synchronous or asynchronous. An answer arrives as a whole or as a stream of parts.
"""

import asyncio
import inspect
import json
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import aclosing, closing, contextmanager
from functools import reduce
from operator import add
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, message_chunk_to_message
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool

from tradingbot.ai.completion import no_completion, validating_copy
from tradingbot.ai.finish_reasons import finish_reason
from tradingbot.ai.provider import chat_model
from tradingbot.ai.sanitising import clean
from tradingbot.errors import AIError, ConfigError, KronosError
from tradingbot.formatting import cause_text
from tradingbot.runtime.concurrency import in_background
from tradingbot.settings import default_timeouts

OnText = Callable[[str], object]


class Chat:
    """A language model with its tools.

    If the environment selects the model, every failure of the model raises an AIError with its
    name, its address and the cause. If the caller passes the model, its errors are raised
    unchanged.
    """

    def __init__(self, model: BaseChatModel | str | None, tools: Sequence[BaseTool]) -> None:
        """Select the model and bind the tools to it.

        Raises:
            ConfigError: There is no such model, or the model cannot call tools.
        """
        self._where: str | None = None  # None: a model passed by the caller
        if model is None or isinstance(model, str):
            model = chat_model(model)
            self._where = f"{model.model_name} at {model.openai_api_base}"  # type: ignore[attr-defined]
        elif not isinstance(model, Runnable):
            raise ConfigError(f"model={model!r}: expected a chat model of LangChain's, or a name")
        self._is_async = _is_async(model)
        self._model = _with_tools(validating_copy(model), tools)

    def answer(self, messages: list[BaseMessage], on_text: OnText | None = None) -> AIMessage:
        """Return the model's answer. Call `on_text` with each piece of text as it arrives.

        Raises:
            AIError: The answer takes longer than `ai_answer` seconds, or a model that the
                environment selects fails.
        """
        parts = []
        for part in self._with_deadline(messages, stream=on_text is not None):
            parts.append(part)
            if on_text is not None and part.text:
                on_text(clean(part.text))
        return self._whole(parts)

    async def answer_async(
        self, messages: list[BaseMessage], on_text: OnText | None = None
    ) -> AIMessage:
        """Do the same as `answer`, asynchronously. `on_text` may be a coroutine function."""
        parts = []
        seconds = default_timeouts().ai_answer
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline, aclosing(self._parts_async(messages, on_text is not None)) as all_:
                async for part in all_:
                    parts.append(part)
                    if on_text is not None and part.text:
                        await awaited(on_text(clean(part.text)))
        except TimeoutError as error:
            if deadline.expired():
                raise _late(seconds) from error
            raise
        return self._whole(parts)

    # parts of an answer ------------------------------------------------------------------

    def _with_deadline(
        self, messages: list[BaseMessage], *, stream: bool
    ) -> Generator[BaseMessage]:
        """Yield the parts of an answer, which a background thread receives.

        The thread makes a deadline possible, because the model itself may have no time-out.
        """
        seconds = default_timeouts().ai_answer
        deadline = time.monotonic() + seconds
        arrived: SimpleQueue[BaseMessage | None] = SimpleQueue()
        stopped = Event()

        def ask() -> None:
            with closing(self._parts(messages, stream)) as parts:
                for part in parts:
                    arrived.put(part)
                    if stopped.is_set():
                        return

        asking = in_background(ask)
        asking.add_done_callback(lambda _: arrived.put(None))
        try:
            while True:
                try:
                    part = arrived.get(timeout=max(0.0, deadline - time.monotonic()))
                except Empty:
                    raise _late(seconds) from None
                if part is None:
                    asking.result()
                    return
                yield part
        finally:
            stopped.set()

    def _parts(self, messages: list[BaseMessage], stream: bool) -> Generator[BaseMessage]:
        """Yield the streamed parts, or the whole answer if streaming is off or not supported."""
        with self._named():
            begun = False
            if stream:
                with _ignore_empty_stream():
                    for part in self._model.stream(messages):
                        begun = True
                        yield part
            if not begun:
                yield self._model.invoke(messages)

    async def _parts_async(
        self, messages: list[BaseMessage], stream: bool
    ) -> AsyncGenerator[BaseMessage]:
        if not self._is_async:
            # Not LangChain's own thread: after a cancelled call, the process would wait for that
            # thread at exit.
            thread = in_background(lambda: list(self._parts(messages, stream)))
            for part in await asyncio.wrap_future(thread):
                yield part
            return
        with self._named():
            begun = False
            if stream:
                with _ignore_empty_stream():
                    async for part in self._model.astream(messages):
                        begun = True
                        yield part
            if not begun:
                yield await self._model.ainvoke(messages)

    @contextmanager
    def _named(self) -> Generator[None]:
        try:
            yield
        except Exception as error:
            if isinstance(error, AIError) or self._where is not None:
                raise AIError(f"{self._name}: {_cause(error)}") from error
            raise

    @property
    def _name(self) -> str:
        return "the language model" + ("" if self._where is None else f" {self._where}")

    def _whole(self, parts: list[BaseMessage]) -> AIMessage:
        for part in parts:
            if not isinstance(part, AIMessage):
                kind = type(part).__name__
                raise AIError(f"{self._name} answered with {kind}: expected a chat model's message")
        if isinstance(parts[0], AIMessageChunk):
            whole = message_chunk_to_message(reduce(add, parts))
            assert isinstance(whole, AIMessage)
            if self._where is not None and not finish_reason(whole):
                raise AIError(
                    f"{self._name}: its answer ended early, after {len(whole.text):,} characters"
                )
            return whole
        assert isinstance(parts[0], AIMessage)
        return parts[0]


async def awaited(result: Any) -> Any:
    """Return `result`, or await it first if it is awaitable.

    `result` is what a function or a coroutine function has returned.
    """
    return await result if inspect.isawaitable(result) else result


def _with_tools(model: Any, tools: Sequence[BaseTool]) -> Runnable[Any, Any]:
    try:
        bound: Runnable[Any, Any] = model.bind_tools(list(tools)) if tools else model
    except (NotImplementedError, AttributeError) as error:
        raise ConfigError(
            f"the chat model {type(model).__name__} cannot call tools (bind_tools); "
            "pass one that can, or leave out extra_tools and bot"
        ) from error
    return bound


def _is_async(model: Runnable[Any, Any]) -> bool:
    """Return whether the model has its own asynchronous implementation."""
    return not isinstance(model, BaseChatModel) or any(
        getattr(type(model), name) is not getattr(BaseChatModel, name)
        for name in ("_agenerate", "_astream")
    )


@contextmanager
def _ignore_empty_stream() -> Generator[None]:
    """Ignore LangChain's ValueError for an empty stream. Callers then request a whole answer."""
    try:
        yield
    except ValueError as error:
        if "No generation" not in str(error):
            raise


def _late(seconds: float) -> AIError:
    return AIError(f"the language model gave no answer within {seconds:g} s")


def _cause(error: Exception) -> str:
    """Return the server's error message, or why the server was out of reach, in one line."""
    if isinstance(error, KronosError):
        return error.reason
    if isinstance(error, json.JSONDecodeError):
        return f"the AI endpoint answered 200 with {no_completion(error.doc)}"
    if isinstance(error, UnicodeDecodeError):
        return f"the AI endpoint answered 200 with bytes that are not text: {error.object[:100]!r}"
    if isinstance(error, RecursionError):
        return "the AI endpoint answered 200 with JSON that is nested too deeply"
    root: BaseException = error
    # without a response of the server, the message is only "Connection error."
    if not hasattr(error, "status_code"):
        while root.__cause__ or root.__context__:
            root = root.__cause__ or root.__context__ or root
    return cause_text(root, 300)
