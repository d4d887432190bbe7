"""Request bodies are split into their series exactly at JSON's commas."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kronos_space.server import json_splitting
from kronos_space.server.json_splitting import TooManyElements, longest_list, split_lists

TEXTS = st.text('a"\\[]{},:', max_size=6)
VALUES = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(VALUES, max_size=5), st.sampled_from([None, 1]), st.integers(2, 60))
def test_elements_are_split_correctly_wherever_a_chunk_ends(
    elements: list[Any], indent: int | None, chunk: int
) -> None:
    body = json.dumps({"requests": elements, "more": {"of": [1, 2]}}, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_splitting, "CHUNK", chunk)
        outline, spans = split_lists(body, most=10)
    numbers = json.loads(outline)["requests"]
    assert [json.loads(body[slice(*spans[number])]) for number in numbers] == elements


@pytest.mark.parametrize(
    "body",
    [b'{"requests": [,]}', b'{"requests": [1,]}', b'{"requests": [1 2]}', b'{"requests": [}'],
)
def test_splitting_does_not_turn_invalid_json_into_valid_json(body: bytes) -> None:
    outline, spans = split_lists(body, most=10)
    texts = [outline, *(body[begin:end] for begin, end in spans)]
    assert not all(map(is_json, texts))


def is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def test_excess_elements_are_counted_but_not_stored() -> None:
    with pytest.raises(TooManyElements) as error:
        split_lists(b'{"requests":[' + b"1," * 5000 + b"1]}", most=256)
    assert error.value.count == 5001


def test_the_longest_list_is_named() -> None:
    body = b'{"a": [1, 2], "target_timestamps" : [' + b"1," * 99 + b'1], "ohlcv": [[1, 2, 3], 2]}'
    assert longest_list(body) == ("target_timestamps", 100)
    assert longest_list(b"[1, 2") == ("", 0)
