"""Hostile requests cost little and are refused with harmless messages."""

import json
import tracemalloc
from typing import Any
from unicodedata import category

import pytest
from starlette.testclient import TestClient

from kronos_space import schemas
from kronos_space.error_messages import is_visible as space_sees
from kronos_space.server import connection, reader
from tests.support.candles import bars, request
from tradingbot.errors import DataError
from tradingbot.markets.symbols import calendar_name
from tradingbot.markets.symbols import is_visible as job_sees

MANY = 200_000
BOTH = pytest.mark.parametrize("path", ["/predict", "/predict/batch"])


def with_field(name: str, value: str) -> bytes:
    return (json.dumps(request())[:-1] + f', "{name}": {value}}}').encode()


def repeated(value: str, count: int = MANY) -> str:
    return "[" + ",".join([value] * count) + "]"


KEYS = ",".join(f'"key{n}": 1' for n in range(MANY // 4))
ROW = json.dumps(bars()[0])[:-1]
HOSTILE = {
    "wrong targets": with_field("target_timestamps", repeated("1")),
    "wrong quantiles": with_field("quantiles", repeated('"x"')),
    "wrong rows": with_field("ohlcv", repeated("{}")),
    "some wrong rows": with_field("ohlcv", repeated("{}", 4000)),
    "rows of lists": with_field("ohlcv", repeated("[]")),
    "unknown keys": (json.dumps(request())[:-1] + "," + KEYS + "}").encode(),
    "unknown keys of a row": with_field("ohlcv", repeated(f"{ROW}, {KEYS}}}", 1)),
    "an unknown list": with_field("nothing", repeated("{}")),
    "nested": with_field("symbol", "[" * MANY),
    "nested often": with_field("symbol", repeated("[" * 99 + "]" * 99, MANY // 100)),
    "a long text": with_field("symbol", json.dumps("x" * MANY)),
    "a long number": with_field("seed", "9" * MANY),
    "long numbers": with_field("quantiles", repeated("9" * 4000, 90)),
    "a long key": with_field("k" * MANY, "1"),
}


def sent(client: TestClient, path: str, body: bytes) -> dict[str, Any]:
    """Send a request, alone or in a batch; return its error."""
    if path == "/predict/batch":
        body = b'{"requests": [' + body + b"]}"
    answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert len(answer.content) < 5000
    result = answer.json()["results"][0] if answer.status_code == 200 else answer.json()
    assert answer.status_code in (200, 422)
    return result["error"]


@BOTH
@pytest.mark.parametrize("what", HOSTILE)
def test_refusing_a_body_takes_little_memory(client: TestClient, path: str, what: str) -> None:
    body = HOSTILE[what]
    sent(client, path, body)
    tracemalloc.start()
    try:
        error = sent(client, path, body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error["code"] == "invalid_input"
    assert len(error.get("fields", [])) <= 20
    assert peak < 12 * len(body) + 6 * 2**20  # copies made by the test, and the index of one chunk


@BOTH
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("target_timestamps", repeated("1"), "200000 target_timestamps: expected at most 256"),
        ("target_timestamps", repeated("1", 300), "300 target_timestamps: expected at most 256"),
        ("quantiles", repeated("1"), "200000 quantiles: expected at most 99"),
        ("ohlcv", repeated("1"), "200000 rows of history: expected 32 to 4096"),
        ("ohlcv", repeated("1", 5000), "5000 rows of history: expected 32 to 4096"),
    ],
)
def test_a_list_that_is_too_long_is_refused_before_its_elements_are_parsed(
    client: TestClient,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    name: str,
    value: str,
    message: str,
) -> None:
    real = schemas._validated

    def of_batches_only(model: type[schemas.BatchRequest], data: Any) -> Any:
        assert model is schemas.BatchRequest
        return real(model, data)

    monkeypatch.setattr(schemas, "_validated", of_batches_only)
    assert sent(client, path, with_field(name, value))["message"] == message


def test_the_first_wrong_row_is_named_even_if_a_later_one_has_unknown_keys(
    client: TestClient,
) -> None:
    rows = [*bars(), {**bars()[0], **{f"k{n}": 1 for n in range(50)}}]
    rows[17]["open"] = "9"
    message = sent(client, "/predict", json.dumps(request(ohlcv=rows)).encode())["message"]
    assert message == 'row 17: open: Input should be a valid number, got "9"'
    rows[17]["open"] = rows[17]["low"]
    error = sent(client, "/predict", json.dumps(request(ohlcv=rows)).encode())
    assert error["message"] == f"row {len(bars())}: k0: Extra inputs are not permitted"


def test_a_batch_is_read_a_few_series_at_a_time(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two parts of a batch the event loop serves other callers."""
    service = client.app.state.service.reader  # type: ignore[attr-defined]
    turns: list[int] = []
    real = service._prepare_items
    monkeypatch.setattr(
        service, "_prepare_items", lambda body, spans: turns.append(len(spans)) or real(body, spans)
    )
    monkeypatch.setattr(reader, "TURN", 10_000)
    items = [request(symbol=f"T{n}", samples=1, horizon=1) for n in range(9)]
    results = client.post("/predict/batch", json={"requests": items}).json()["results"]
    assert [result["symbol"] for result in results] == [item["symbol"] for item in items]
    assert len(turns) > 3


@BOTH
@pytest.mark.parametrize(
    "mark", list("\x07\x7f\x85\x9b\xad\u200b\u200f\u2028\u202e\u2066\u3164\ufe0f\ufeff\U000e0041")
)
def test_terminal_control_characters_are_refused_and_never_echoed(
    client: TestClient, path: str, mark: str
) -> None:
    for body in (request(symbol=f"A{mark}B"), request() | {f"k{mark}": 1}):
        for ascii_only in (True, False):
            text = json.dumps(body, ensure_ascii=ascii_only).encode()
            if mark < " " and not ascii_only:
                continue
            assert mark not in json.dumps(sent(client, path, text), ensure_ascii=False)
    rows = bars()
    rows[3][f"k{mark}"] = 1
    text = json.dumps(request(ohlcv=rows)).encode()
    assert mark not in json.dumps(sent(client, path, text), ensure_ascii=False)


def test_the_space_and_the_job_accept_the_same_ticker_characters() -> None:
    marks = [chr(code) for code in (*range(0x20000), *range(0xE0000, 0xE0200))]
    seen = [mark for mark in marks if space_sees(f"A{mark}B")]
    assert seen == [mark for mark in marks if job_sees(f"A{mark}B")]
    assert not [
        mark for mark in seen if category(mark) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    ]
    assert not set(seen) & set("\u034f\u115f\u1160\u17b5\u180b\u2800\u3164\uffa0\ufe0f\U000e0100")
    assert set(seen) > set("AZaz09.-=^ /日経ก한é")
    with pytest.raises(DataError, match=r"'A\\u3164' has invisible characters"):
        calendar_name("A\u3164")


def test_the_symbol_of_a_refused_item_is_echoed_short_and_printable(client: TestClient) -> None:
    items = [request(symbol="x" * 10_000), request(symbol="A\x9b31m\u202e"), {"symbol": "日経"}]
    results = client.post("/predict/batch", json={"requests": items}).json()["results"]
    assert [result["symbol"] for result in results] == ["x" * 64, "A\ufffd31m\ufffd", "日経"]


@BOTH
@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/vnd.api+json", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonp", 415),
        ("x" * 5000, 415),
    ],
)
def test_a_body_with_another_content_type_than_json_is_a_415(
    client: TestClient, path: str, kind: str, status: int
) -> None:
    body = request() if path == "/predict" else {"requests": [request()]}
    answer = client.post(path, content=json.dumps(body), headers={"Content-Type": kind})
    assert answer.status_code == status
    if status == 415:
        assert set(answer.json()) == {"error"}
        assert answer.json()["error"]["code"] == "unsupported_media_type"
        assert "-H 'Content-Type: application/json'" in answer.json()["error"]["message"]
        assert len(answer.content) < 500


@pytest.mark.parametrize("path", ["/predict/", "/predict/batch/", "/health/"])
def test_no_path_is_redirected(client: TestClient, path: str) -> None:
    answer = client.post(path, json=request(), follow_redirects=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize("path", ["/health", "/", "/docs", "/openapi.json", "/metrics", "/nothing"])
def test_every_answer_forbids_guessing_its_content_type(client: TestClient, path: str) -> None:
    for answer in (client.get(path), client.post(path, content=b"{")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert len(answer.headers["x-request-id"]) == 32


def test_servers_do_not_share_their_idle_connections() -> None:
    one, other = connection.at_most(3), connection.at_most(4)
    assert one._idle is not other._idle
    assert (one.limit, other.limit) == (3, 4)
