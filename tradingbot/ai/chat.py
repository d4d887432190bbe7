"""How to put a conversation to a language model: at once or awaited, whole or piece by piece."""

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

from tradingbot.ai.completion import careful_copy, no_completion
from tradingbot.ai.finish_reasons import finish_reason
from tradingbot.ai.provider import chat_model
from tradingbot.ai.sanitising import clean
from tradingbot.errors import AIError, ConfigError, KronosError
from tradingbot.formatting import cause_text
from tradingbot.runtime.concurrency import in_background
from tradingbot.settings import default_timeouts

OnText = Callable[[str], object]


class Chat:
    """A language model that knows some tools.

    Of the model that the environment names, every failure is an AIError that names the model, its
    address and the cause. What a model of the caller's raises is raised as it is.
    """

    def __init__(self, model: BaseChatModel | str | None, tools: Sequence[BaseTool]) -> None:
        """ConfigError when there is no such model, or it cannot call tools."""
        self._where: str | None = None  # None: a model of the caller's
        if model is None or isinstance(model, str):
            model = chat_model(model)
            self._where = f"{model.model_name} at {model.openai_api_base}"  # type: ignore[attr-defined]
        elif not isinstance(model, Runnable):
            raise ConfigError(f"model={model!r}: expected a chat model of LangChain's, or a name")
        self._awaitable = _awaitable(model)
        self._model = _with_tools(careful_copy(model), tools)

    def answer(self, messages: list[BaseMessage], on_text: OnText | None = None) -> AIMessage:
        """The model's answer; its text is passed to `on_text` piece by piece as it arrives.

        AIError after `ai_answer` seconds: the model may be one without a time-out of its own.
        """
        parts = []
        for part in self._in_time(messages, stream=on_text is not None):
            parts.append(part)
            if on_text is not None and part.text:
                on_text(clean(part.text))
        return self._whole(parts)

    async def answer_async(
        self, messages: list[BaseMessage], on_text: OnText | None = None
    ) -> AIMessage:
        """As `answer`, awaited; `on_text` may be a coroutine function."""
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

    def _in_time(self, messages: list[BaseMessage], *, stream: bool) -> Generator[BaseMessage]:
        """The parts, made in a thread of their own and handed over to the caller's."""
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
        """Pieces when streamed; the whole where not, or where the server does not stream."""
        with self._named():
            begun = False
            if stream:
                with _nothing_streamed():
                    for part in self._model.stream(messages):
                        begun = True
                        yield part
            if not begun:
                yield self._model.invoke(messages)

    async def _parts_async(
        self, messages: list[BaseMessage], stream: bool
    ) -> AsyncGenerator[BaseMessage]:
        if not self._awaitable:
            # LangChain's own thread would outlive a call that is cancelled, and the process
            thread = in_background(lambda: list(self._parts(messages, stream)))
            for part in await asyncio.wrap_future(thread):
                yield part
            return
        with self._named():
            begun = False
            if stream:
                with _nothing_streamed():
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
                    f"{self._name}: its answer broke off after {len(whole.text):,} characters"
                )
            return whole
        assert isinstance(parts[0], AIMessage)
        return parts[0]


async def awaited(result: Any) -> Any:
    """The result of a function, or of a coroutine function."""
    return await result if inspect.isawaitable(result) else result


def _with_tools(model: Any, tools: Sequence[BaseTool]) -> Runnable[Any, Any]:
    try:
        bound: Runnable[Any, Any] = model.bind_tools(list(tools)) if tools else model
    except (NotImplementedError, AttributeError) as error:
        raise ConfigError(
            f"the chat model {type(model).__name__} cannot call tools (bind_tools); "
            "pass one that can, or none of extra_tools and bot"
        ) from error
    return bound


def _awaitable(model: Runnable[Any, Any]) -> bool:
    """Whether the model has an asynchronous side of its own."""
    return not isinstance(model, BaseChatModel) or any(
        getattr(type(model), name) is not getattr(BaseChatModel, name)
        for name in ("_agenerate", "_astream")
    )


@contextmanager
def _nothing_streamed() -> Generator[None]:
    """Ignore LangChain's ValueError for a stream without a piece: the whole is asked for then."""
    try:
        yield
    except ValueError as error:
        if "No generation" not in str(error):
            raise


def _late(seconds: float) -> AIError:
    return AIError(f"the language model gave no answer within {seconds:g} s")


def _cause(error: Exception) -> str:
    """One line: what the server answered, or why it could not be asked."""
    if isinstance(error, KronosError):
        return error.reason
    if isinstance(error, json.JSONDecodeError):
        return f"it answered 200 with {no_completion(error.doc)}"
    if isinstance(error, UnicodeDecodeError):
        return f"it answered 200 with bytes that are no text: {error.object[:100]!r}"
    root: BaseException = error
    if not hasattr(error, "status_code"):  # "Connection error." alone says too little
        while root.__cause__ or root.__context__:
            root = root.__cause__ or root.__context__ or root
    return cause_text(root, 300)
