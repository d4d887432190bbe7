"""The MCP server: list tools, call them, and read resources."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib import resources
from typing import Any

import mcp_types as types
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID, client_supports_apps
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, ValidationError
from pydantic.json_schema import JsonSchemaMode
from pydantic_core import from_json

from tradingbot import __version__
from tradingbot.ai.mcp.tools import Tool
from tradingbot.ai.sanitising import bounded, clean
from tradingbot.errors import KronosError
from tradingbot.formatting import quoted
from tradingbot.runtime.concurrency import in_background

logger = logging.getLogger(__name__)

FAN = "ui://kronos/fan.html"
CLOSES = "kronos/closes"  # key in a result's _meta, for the fan chart
MAX_CONCURRENT = 8  # concurrent calls of one tool; further calls wait without blocking other tools
INSTRUCTIONS = (
    "Forecasts of daily prices by Kronos, a model of price candles, with their track record. "
    "All tools are read-only. A forecast knows past candles and nothing else, and is no advice: "
    "always state its range and its record, and never make one up if there is none."
)


def make_server(tools: Sequence[Tool]) -> Any:
    """Return a server of these tools, for any transport."""
    by_name = {tool.name: tool for tool in tools}
    listed = [_listed(tool) for tool in tools]
    slots = {tool.name: asyncio.Semaphore(MAX_CONCURRENT) for tool in tools}

    async def list_tools(_context: Any, _params: Any) -> Any:
        return types.ListToolsResult(tools=listed)

    async def call_tool(context: Any, params: Any) -> Any:
        tool = by_name.get(params.name)
        if tool is None:
            known = ", ".join(by_name)
            message = f"unknown tool {quoted(params.name, 80)!r}: there are {known}"
            raise MCPError(types.INVALID_PARAMS, message)
        try:
            asked = tool.arguments.model_validate(params.arguments or {})
            fan = client_supports_apps(context)
            return await _in_thread(slots[tool.name], partial(_result, tool, asked, fan=fan))
        except ValidationError as error:
            return _failure(_in_words(tool, error))
        except KronosError as error:
            return _failure(quoted(error))
        except Exception:  # the error text may contain confidential data
            logger.exception("the tool %s failed", tool.name)
            return _failure(f"The tool {tool.name} failed; the server's log says why.")

    async def list_resources(_context: Any, _params: Any) -> Any:
        return types.ListResourcesResult(resources=[_fan_listed()])

    async def read_resource(_context: Any, params: Any) -> Any:
        if str(params.uri) != FAN:
            message = f"unknown resource {quoted(params.uri, 80)!r}: there is {FAN}"
            raise MCPError(types.INVALID_PARAMS, message)
        return types.ReadResourceResult(contents=[_fan()])

    server = Server(
        "kronosbot",
        version=__version__,
        title="Kronos forecasts",
        instructions=INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_read_resource=read_resource,
    )
    server.extensions[EXTENSION_ID] = {}
    return server


async def _in_thread(slots: asyncio.Semaphore, answer: Callable[[], Any]) -> Any:
    """Run `answer` in a thread. A cancelled call keeps its slot until its thread has ended."""
    await slots.acquire()
    loop = asyncio.get_running_loop()
    work = in_background(answer)
    work.add_done_callback(lambda _: _free(loop, slots))
    return await asyncio.wrap_future(work)


def _free(loop: asyncio.AbstractEventLoop, slots: asyncio.Semaphore) -> None:
    with suppress(RuntimeError):  # the server may have ended
        loop.call_soon_threadsafe(slots.release)


def _listed(tool: Tool) -> Any:
    return types.Tool(
        name=tool.name,
        title=tool.title,
        description=tool.about,
        input_schema=_schema(tool.arguments, "validation"),
        output_schema=_schema(tool.document, "serialization"),
        annotations=types.ToolAnnotations(
            read_only_hint=True,
            destructive_hint=False,
            idempotent_hint=True,
            open_world_hint=tool.asks_outside,
        ),
        _meta={"ui": {"resourceUri": FAN}} if tool.closes else None,
    )


@cache
def _schema(model: type[BaseModel], mode: JsonSchemaMode) -> dict[str, Any]:
    return model.model_json_schema(mode=mode)


def _result(tool: Tool, asked: BaseModel, *, fan: bool) -> Any:
    text, document = tool.answer(asked)
    closes = tool.closes(document) if fan and tool.closes else []
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=bounded(clean(text)))],
        structured_content=from_json(document.model_dump_json()),
        _meta={CLOSES: closes} if closes else None,  # not shown to the language model
    )


def _failure(text: str) -> Any:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True)


def _in_words(tool: Tool, error: ValidationError) -> str:
    """Describe the first invalid arguments, and list the valid ones."""
    wrong = "; ".join(
        f"{quoted('.'.join(map(str, detail['loc'])), 40)}: {quoted(detail['msg'], 100)}"
        for detail in error.errors(include_url=False, include_input=False)[:3]
    )
    fields: Mapping[str, Any] = tool.arguments.model_fields
    known = ", ".join(
        name if fields[name].is_required() else f"{name} (optional)" for name in fields
    )
    return f"{tool.name} cannot be called like this: {wrong}. Its arguments: {known or 'none'}."


def _fan_listed() -> Any:
    return types.Resource(
        uri=FAN,
        name="fan",
        title="Kronos forecast as a fan",
        description="A forecast's median and bands, day by day, for clients with MCP Apps.",
        mime_type=APP_MIME_TYPE,
    )


def _fan() -> Any:
    html = resources.files("tradingbot.ai.mcp").joinpath("fan.html").read_text(encoding="utf-8")
    return types.TextResourceContents(
        uri=FAN, mime_type=APP_MIME_TYPE, text=html, _meta={"ui": {"prefersBorder": True}}
    )
