"""Malformed answers with status 200, read by the real client over HTTP."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.tools import tool

from tests.support.openai_server import (
    RawBody,
    ReceivedRequests,
    Stream,
    completion,
    openai_server,
    streamed,
    text_answer,
    tool_calls,
)
from tradingbot.ai.agent import run_ai_with_tools, run_ai_with_tools_async
from tradingbot.ai.completion import readable
from tradingbot.errors import AIError

pytestmark = pytest.mark.integration  # the client runs a command to detect the platform

Serve = Callable[..., ReceivedRequests]


@tool
def double(number: int) -> str:
    """Twice the number."""
    return str(2 * number)


def whole(*tools: Any, **options: Any) -> str:
    return run_ai_with_tools("You are an analyst.", "Buy?", tools, **options)


def awaited(*tools: Any, **options: Any) -> str:
    return asyncio.run(run_ai_with_tools_async("You are an analyst.", "Buy?", tools, **options))


def in_pieces(*tools: Any, **options: Any) -> str:
    return whole(*tools, on_text=lambda piece: None, **options)


def in_pieces_awaited(*tools: Any, **options: Any) -> str:
    return awaited(*tools, on_text=lambda piece: None, **options)


WAYS = [whole, awaited, in_pieces, in_pieces_awaited]

NO_ANSWERS = {
    "error object": (
        RawBody.of({"error": {"message": "Provider returned error", "code": 502}}),
        "200 with the error 502: Provider returned error",
    ),
    "error text": (RawBody.of({"error": "no such model"}), "200 with the error: no such model"),
    "error beside choices": (
        RawBody.of(completion(text_answer(""), error={"message": "overloaded"})),
        "200 with the error: overloaded",
    ),
    "error in the choice": (
        RawBody.of(
            {"choices": [{"message": text_answer(""), "error": {"code": 524, "message": "slow"}}]}
        ),
        "200 with the error 524: slow",
    ),
    "choices null": (RawBody.of(completion(None) | {"choices": None}), "choices=null"),
    "choices empty": (RawBody.of(completion(None) | {"choices": []}), r"choices=\[\]"),
    "choices an object": (RawBody.of({"choices": {"a": 1}}), r'choices={"a": 1}'),
    "a choice that is null": (RawBody.of({"choices": [None]}), r"choices=\[null\]"),
    "no message": (RawBody.of(completion(None)), r"choices=\[.*\"message\": null"),
    "no completion at all": (RawBody.of({"hello": 1}), "without an answer: choices=null"),
    "an error of another form": (
        RawBody.of({"detail": "Not Found"}),
        r'choices=null in {"detail": "Not Found"}',
    ),
    "blocks that are null": (
        RawBody.of(completion(text_answer("") | {"content": [None]})),
        r"content=\[null\]: expected text",
    ),
    "a block whose text is a number": (
        RawBody.of(completion(text_answer("") | {"content": [{"type": "text", "text": 5}]})),
        r"content=\[.*5.*: expected text",
    ),
    "deeply nested JSON": (RawBody("[" * 100_000), "JSON that is nested too deeply"),
    "content of the wrong kind": (
        RawBody.of(completion(text_answer("") | {"content": 5})),
        "content=5",
    ),
    "a page": (RawBody("<html>Sign in</html>", "text/html"), "not JSON: '<html>Sign in</html>'"),
    "a page that claims JSON": (
        RawBody("<html>Sign in</html>"),
        "not JSON: '<html>Sign in</html>'",
    ),
    "an empty body": (RawBody(""), "an empty body"),
    "an empty text": (RawBody("", "text/plain"), "an empty body"),
    "half of a completion": (
        RawBody(json.dumps(completion(text_answer("x")))[:40]),
        'not JSON: \'{"id"',
    ),
    "a list": (RawBody("[1]"), r"JSON that is not an object: \[1\]"),
    "null": (RawBody("null"), "JSON that is not an object: null"),
    "no text": (RawBody(b"\xff\xfe{"), "bytes that are not text"),
    "refusal": (
        RawBody.of(completion({**text_answer(""), "content": None, "refusal": "I will not."})),
        "refuses to answer: 'I will not.'",
    ),
    "cut off": (
        RawBody.of(completion(text_answer("I would"), "length")),
        "cut off at its limit of tokens .finish_reason=length. after 7 characters: 'I would'",
    ),
    "cut off before a word": (
        RawBody.of(completion(text_answer(""), "length")),
        "after 0 characters",
    ),
    "cut off in a call": (
        RawBody.of(completion(tool_calls(("double", '{"num')), "length")),
        "cut off at its limit of tokens",
    ),
    "filtered": (
        RawBody.of(completion(text_answer("I"), "content_filter")),
        "stopped by a content filter",
    ),
    "failed": (RawBody.of(completion(text_answer(""), "error")), "failed while it answered"),
    "a call of the old kind": (
        RawBody.of(
            completion({**text_answer(""), "function_call": {"name": "f", "arguments": "{}"}}, "x")
        ),
        r"empty answer in step 1 \(finish_reason=x\)",
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("answer", "says_"), NO_ANSWERS.values(), ids=NO_ANSWERS)
def test_an_invalid_completion_is_an_error_that_shows_it(
    served: Serve, way: Callable[..., str], answer: RawBody, says_: str
) -> None:
    served(answer)
    with pytest.raises(AIError, match=says_) as error:
        way(double)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


SIDE_FIELDS: list[tuple[dict[str, Any], dict[str, Any]]] = [  # of the answer, of its message
    ({"usage": "none"}, {}),
    ({"usage": {"prompt_tokens": "1", "completion_tokens": 1}}, {}),
    ({"id": 5, "created": "now", "service_tier": []}, {}),
    ({}, {"function_call": 5}),
    ({}, {"audio": "none", "annotations": 1, "name": {}}),
]


@pytest.mark.parametrize("way", [whole, awaited])
@pytest.mark.parametrize(("beside", "in_message"), SIDE_FIELDS)
def test_side_fields_of_another_type_do_not_invalidate_the_answer(
    served: Serve, way: Callable[..., str], beside: dict[str, Any], in_message: dict[str, Any]
) -> None:
    called = completion({**tool_calls(("double", {"number": 2})), **in_message}) | beside
    answered = completion({**text_answer("Hold."), **in_message}) | beside
    served(RawBody.of(called), RawBody.of(answered))
    assert way(double) == "Hold."


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of OpenAI's client
@pytest.mark.parametrize("way", [in_pieces, in_pieces_awaited])
def test_side_fields_of_another_type_do_not_invalidate_a_stream(
    served: Serve, way: Callable[..., str]
) -> None:
    served(Stream([{"content": "Ho"}, {"content": "ld.", "function_call": 5, "audio": "none"}]))
    assert way(double) == "Hold."


STREAMS = {
    "nothing": (Stream([], finish_reason=None), "not JSON|an empty"),
    "broken off": (
        Stream([{"content": "I would"}], finish_reason=None),
        "ended early, after 7 chara",
    ),
    "cut off": (Stream([{"content": "I would"}], "length"), "cut off .* after 7 characters: 'I w"),
    "filtered": (Stream([{"content": "I"}], "content_filter"), "stopped by a content filter"),
    "refused": (Stream([{"refusal": "I "}, {"refusal": "will not."}]), "'I will not.'"),
}


@pytest.mark.parametrize("way", [in_pieces, in_pieces_awaited])
@pytest.mark.parametrize(("answer", "says_"), STREAMS.values(), ids=STREAMS)
def test_an_invalid_stream_is_an_error_that_shows_it(
    served: Serve, way: Callable[..., str], answer: Stream, says_: str
) -> None:
    served(answer)
    with pytest.raises(AIError, match=says_):
        way(double)


NO_OBJECTS = ["[1]", "5", '"text"', "true", "[]", "1e400", '[{"number": 2}]']


@pytest.mark.parametrize("way", WAYS)
def test_arguments_that_are_not_an_object_go_back_to_the_model(
    served: Serve, way: Callable[..., str]
) -> None:
    script = tool_calls(("double", {"number": 2}), *(("double", text) for text in NO_OBJECTS))
    first = script
    if way in (in_pieces, in_pieces_awaited):
        deltas = [{"index": number, **call} for number, call in enumerate(script["tool_calls"])]
        first = Stream([{"tool_calls": [delta]} for delta in deltas], "tool_calls")  # type: ignore[assignment]
    asked = served(first, streamed("Four.") if first is not script else text_answer("Four."))
    assert way(double) == "Four."
    answers = {
        message["tool_call_id"]: message["content"]
        for message in asked.bodies[1]["messages"]
        if message["role"] == "tool"
    }
    assert answers.pop("call_0") == "4"
    assert len(answers) == len(NO_OBJECTS)
    for text in answers.values():
        assert text.startswith("Error: the arguments cannot be read")


def test_the_model_gets_the_expected_form_of_its_arguments(served: Serve) -> None:
    asked = served(tool_calls(("double", "[1]")), text_answer("ok"))
    assert whole(double) == "ok"
    [result] = [m for m in asked.bodies[1]["messages"] if m["role"] == "tool"]
    assert 'expected a JSON object, such as {"name": 1}, and not [1]' in result["content"]


def test_arguments_given_as_an_object_are_accepted(served: Serve) -> None:
    script = tool_calls(("double", {"number": 2}), ("double", ""))
    script["tool_calls"][0]["function"]["arguments"] = {"number": 21}
    script["tool_calls"][1]["function"] = None
    asked = served(script, text_answer("ok"))
    assert whole(double) == "ok"
    results = [m["content"] for m in asked.bodies[1]["messages"] if m["role"] == "tool"]
    assert results[0] == "42"
    assert "it names no function" in results[1]


def test_calls_without_ids_or_with_one_id_are_distinguished(served: Serve) -> None:
    script = tool_calls(
        ("double", {"number": 1}), ("double", {"number": 2}), ("double", {"number": 3})
    )
    script["tool_calls"][1]["id"] = "call_0"
    script["tool_calls"][2]["id"] = None
    asked = served(script, text_answer("ok"))
    assert whole(double) == "ok"
    *_, called, first, second, third = asked.bodies[1]["messages"]
    ids = [call["id"] for call in called["tool_calls"]]
    assert len(set(ids)) == 3
    assert [m["tool_call_id"] for m in (first, second, third)] == ids
    assert [m["content"] for m in (first, second, third)] == ["2", "4", "6"]


def test_answers_of_a_passed_chat_model_are_validated_too(served: Serve) -> None:
    from langchain_openai import ChatOpenAI

    with openai_server(RawBody.of({"error": "no such model"})) as (url, _):
        model = ChatOpenAI(model="m", base_url=url, api_key="x")  # type: ignore[arg-type]
        with pytest.raises(AIError, match="200 with the error: no such model"):
            whole(model=model)
    with openai_server(tool_calls(("double", "[1]")), text_answer("ok")) as (url, _):
        model = ChatOpenAI(model="m", base_url=url, api_key="x")  # type: ignore[arg-type]
        assert whole(double, model=model) == "ok"
        assert type(model) is ChatOpenAI, "the caller's model is left as it is"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "tool_calls", "function", "arguments",
                         "name", "id", "error", "delta"]),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(json_values)
def test_any_json_is_a_completion_or_a_clear_error(body: Any) -> None:
    for answer in (body, {"choices": [{"message": body}]}, completion({"tool_calls": body})):
        with suppress(AIError):
            read, invalid = readable(answer)
            assert isinstance(read["choices"][0]["message"], dict)
            assert all(isinstance(call["args"], str) for call in invalid)
