"""Validate responses with status 200 of servers that implement OpenAI's protocol.

A completion is the JSON document with the model's answer. langchain-openai expects a completion
exactly as OpenAI sends it. Other servers send an error, a web page or a partial completion with
status 200. Models sometimes write arguments of a tool call that are not a JSON object.
"""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from langchain_core.messages import InvalidToolCall
from langchain_core.messages.tool import invalid_tool_call

from tradingbot.errors import AIError
from tradingbot.formatting import quoted

# Errors that langchain-openai raises if a field other than the answer, such as `usage`, has an
# unexpected type.
_UNREADABLE = (TypeError, ValueError, AttributeError, KeyError)


class Validating:
    """Mixin for `ChatOpenAI` that raises AIError for an invalid completion.

    Tool calls whose arguments are not a JSON object are moved to `invalid_tool_calls`.
    """

    def _create_chat_result(self, response: Any, generation_info: Any = None) -> Any:
        completion, invalid = readable(response)
        create = super()._create_chat_result  # type: ignore[misc]
        try:
            result = create(completion, generation_info)
        except _UNREADABLE:
            result = create(_only_answer(completion, "message"), generation_info)
        message = result.generations[0].message
        message.invalid_tool_calls += invalid
        message.additional_kwargs["refusal"] = completion["choices"][0]["message"].get("refusal")
        return result

    def _convert_chunk_to_generation_chunk(self, chunk: Any, *args: Any, **kwargs: Any) -> Any:
        choices = _choices_of_chunk(chunk)
        convert = super()._convert_chunk_to_generation_chunk  # type: ignore[misc]
        chunk = {**chunk, "choices": choices}
        try:
            converted = convert(chunk, *args, **kwargs)
        except _UNREADABLE:
            converted = convert(_only_answer(chunk, "delta"), *args, **kwargs)
        if choices and converted is not None and choices[0]["delta"].get("refusal"):
            converted.message.additional_kwargs["refusal"] = choices[0]["delta"]["refusal"]
        return converted


def validating_copy(model: Any) -> Any:
    """Return a copy of the model with the mixin `Validating`, if it is a ChatOpenAI or a subclass.

    Return any other model unchanged.
    """
    kind: Any = type(model)
    if "BaseChatOpenAI" not in {base.__name__ for base in kind.mro()}:
        return model
    copy = model.model_copy()
    copy.__class__ = _validating(kind)
    return copy


@cache
def _validating(kind: Any) -> type[Any]:
    return type(kind.__name__, (Validating, kind), {"__module__": kind.__module__})


def readable(response: Any) -> tuple[dict[str, Any], list[InvalidToolCall]]:
    """Return the completion as langchain-openai expects it, and the invalid tool calls.

    Raises:
        AIError: The response is not a completion. The text describes what was received.
    """
    body = response.model_dump(warnings=False) if hasattr(response, "model_dump") else response
    if not isinstance(body, dict):
        raise AIError(f"the AI endpoint answered 200 with {no_completion(body)}")
    _raise_error_of(body)
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        rest = {key: value for key, value in body.items() if value is not None and key != "choices"}
        beside = f" in {_json(rest)}" if rest and not choices else ""
        raise AIError(
            f"the AI endpoint answered 200 without an answer: choices={_json(choices)}{beside}"
        )
    _raise_error_of(choice)
    content = message.get("content")
    if not _is_content(content):
        raise AIError(f"the AI endpoint answered 200 with content={_json(content)}: expected text")
    calls, invalid = _calls(message.get("tool_calls"))
    message = {**message, "role": "assistant", "tool_calls": calls}
    return {**body, "choices": [{**choice, "message": message}]}, invalid


def _is_content(content: Any) -> bool:
    """Return whether `content` is None, a text, or a list of texts and of blocks (dicts)."""
    if not isinstance(content, list):
        return content is None or isinstance(content, str)
    return all(
        isinstance(block, str)
        or (isinstance(block, dict) and isinstance(block.get("text", ""), str))
        for block in content
    )


def _only_answer(completion: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return only the fields of the completion that hold the answer.

    `kind` is "message", or "delta" for a streamed chunk.
    """
    choices = [
        {
            "index": 0,
            "finish_reason": choice.get("finish_reason"),
            kind: {
                name: choice[kind][name]
                for name in ("role", "content", "tool_calls", "refusal")
                if name in choice[kind]
            },
        }
        for choice in completion["choices"]
    ]
    return {"choices": choices}


def no_completion(body: Any) -> str:
    """Describe a response that is not a completion."""
    if isinstance(body, str):
        return f"text that is not JSON: {quoted(body, 200)!r}" if body.strip() else "an empty body"
    return f"JSON that is not an object: {_json(body)}"


def _choices_of_chunk(chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the first choice of a streamed chunk, as langchain-openai expects it, or []."""
    _raise_error_of(chunk)
    choices = chunk.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict):
        return []
    _raise_error_of(choice)
    delta = choice.get("delta")
    return [
        {**choice, "delta": {**(delta if isinstance(delta, dict) else {}), "role": "assistant"}}
    ]


def _raise_error_of(body: Mapping[str, Any]) -> None:
    error = body.get("error")
    if not error:
        return
    message = error.get("message") if isinstance(error, dict) else error
    code = f" {error['code']}" if isinstance(error, dict) and error.get("code") else ""
    raise AIError(
        f"the AI endpoint answered 200 with the error{code}: {quoted(message or _json(error), 300)}"
    )


def _calls(raw: Any) -> tuple[list[dict[str, Any]], list[InvalidToolCall]]:
    """Return the valid tool calls and the invalid tool calls.

    A call is invalid if it names no function, or if `_no_object` rejects its arguments.
    """
    calls, invalid = [], []
    for call in raw if isinstance(raw, list) else []:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not function.get("name"):
            invalid.append(_invalid(call, "", call, "it names no function"))
            continue
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else _dumped(arguments)
        problem = _no_object(text)
        if problem:
            invalid.append(_invalid(call, function.get("name"), text, problem))
        else:
            function = {"name": str(function["name"]), "arguments": text}
            calls.append({**call, "type": "function", "function": function})
    return calls, invalid


def _no_object(arguments: str) -> str:
    """Return why the arguments are not a JSON object, or "" if they are an object or null.

    Also return "" for invalid JSON, which LangChain detects itself.
    """
    try:
        value = json.loads(arguments)
    except ValueError:
        return ""
    except RecursionError:
        return "they are nested too deeply"
    if value is None or isinstance(value, dict):
        return ""
    return f'expected a JSON object, such as {{"name": 1}}, and not {quoted(arguments, 200)}'


def _invalid(call: Any, name: Any, arguments: Any, error: str) -> InvalidToolCall:
    return invalid_tool_call(
        name=str(name or "unnamed"),
        args=arguments if isinstance(arguments, str) else _dumped(arguments),
        id=call.get("id") if isinstance(call, dict) else None,
        error=error,
    )


def _dumped(value: Any) -> str:
    return json.dumps(value, default=str)


def _json(value: Any) -> str:
    return quoted(_dumped(value), 200)
