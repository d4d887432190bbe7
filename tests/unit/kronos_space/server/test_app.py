"""The HTTP contract, tested in this process."""

import asyncio
import json
import math
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from pydantic_core import to_json
from starlette.testclient import TestClient
from starlette.types import Message

from kronos_space.app import CHUNK, batch_answer, create_app
from kronos_space.forecasting.forecaster import Prepared
from kronos_space.schemas import read_request
from kronos_space.server import bodies, pages
from kronos_space.settings import Settings
from kronos_space.weights.checkpoint import Checkpoint
from tests.support.candles import bars, request


def error_of(response: Any) -> dict[str, Any]:
    """Return the error of a refusal; its body contains nothing else."""
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) - {"fields"} == {"code", "message"}
    return body["error"]


def test_health_names_the_model_the_process_and_its_age(client: TestClient) -> None:
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert health["model"] == "kronos-nano"
    assert health["model_revision"].startswith("sha256:")
    assert health["anchor"] == "last_close"
    assert len(health["boot_id"]) == 32
    assert datetime.fromisoformat(health["started_at"]).tzinfo is not None
    assert health["uptime_s"] >= 0
    assert client.get("/health").json()["boot_id"] == health["boot_id"]


def test_every_start_has_a_new_boot_id(client: TestClient, nano_checkpoint: Checkpoint) -> None:
    with TestClient(create_app(Settings(), checkpoint=nano_checkpoint)) as other:
        assert other.get("/health").json()["boot_id"] != client.get("/health").json()["boot_id"]


def test_predict_returns_the_documented_fields(client: TestClient) -> None:
    answer = client.post("/predict", json=request()).json()
    assert list(answer) == [
        "symbol",
        "model",
        "model_revision",
        "interval",
        "as_of",
        "last_close",
        "reconstruction",
        "samples",
        "seed",
        "predictions",
        "warnings",
    ]
    assert answer["as_of"] == "2026-04-02T00:00:00"
    assert answer["last_close"] == bars()[-1]["close"]
    assert [bar["step"] for bar in answer["predictions"]] == [1, 2, 3]
    assert [bar["target_date"] for bar in answer["predictions"]] == [
        "2026-04-03T00:00:00",
        "2026-04-06T00:00:00",
        "2026-04-07T00:00:00",
    ]
    bar = answer["predictions"][0]
    assert list(bar["close_quantiles"]) == ["0.1", "0.25", "0.5", "0.75", "0.9"]
    assert 0 <= bar["prob_up"] <= 1
    assert bar["low"] <= min(bar["open"], bar["close"])
    assert bar["high"] >= max(bar["open"], bar["close"])


def test_paths_are_returned_on_request(client: TestClient) -> None:
    paths = client.post("/predict", json=request(return_paths=True)).json()["paths"]
    assert (len(paths), len(paths[0]), len(paths[0][0])) == (8, 3, 5)


def test_numbers_are_not_rounded(client: TestClient) -> None:
    closes = [bar["close"] for bar in client.post("/predict", json=request()).json()["predictions"]]
    assert any(close != round(close, 9) for close in closes)


def test_a_batch_answers_in_order_and_a_bad_ticker_fails_alone(client: TestClient) -> None:
    bad = bars()
    bad[17] |= {"high": 9.1, "low": 9.3}
    requests = [
        request(symbol="A"),
        request(symbol="B", ohlcv=bad),
        request(symbol="C", horizon=7),
        "not a request",
        request(symbol="D", samples=True),
    ]
    response = client.post("/predict/batch", json={"requests": requests})
    assert response.status_code == 200
    first, second, third, fourth, fifth = response.json()["results"]
    assert (first["ok"], first["symbol"], len(first["predictions"])) == (True, "A", 3)
    assert second == {
        "ok": False,
        "symbol": "B",
        "error": {"code": "invalid_input", "message": "row 17: high 9.1 is below low 9.3"},
    }
    assert (third["ok"], third["symbol"], len(third["predictions"])) == (True, "C", 7)
    assert (fourth["ok"], fourth["symbol"]) == (False, None)
    assert fifth["error"]["fields"] == [
        {"field": "samples", "message": "Input should be a valid integer, got true"}
    ]


def test_a_batch_with_only_bad_tickers_gets_an_answer(client: TestClient) -> None:
    results = client.post("/predict/batch", json={"requests": [{}, 1]}).json()["results"]
    assert [result["ok"] for result in results] == [False, False]


def test_each_series_of_a_batch_chooses_its_anchoring(client: TestClient) -> None:
    kinds = [{}, {"anchor": "none"}, {"anchor": "last_close"}, {"anchor": "open"}]
    requests = [request(return_paths=True, **kind) for kind in kinds]
    default, none, last_close, wrong = client.post(
        "/predict/batch", json={"requests": requests}
    ).json()["results"]
    start = default["reconstruction"]
    # threads may compute them in different batches, so sums may be rounded differently
    assert last_close["reconstruction"] == pytest.approx(start, rel=1e-6)
    assert start["factor"] == pytest.approx(default["last_close"] / start["close"], rel=1e-12)
    assert start["factor"] != 1
    assert none["reconstruction"] == pytest.approx({"close": start["close"], "factor": 1.0})
    for ours, theirs in zip(default["predictions"], none["predictions"], strict=True):
        for price in ("open", "high", "low", "close"):
            assert ours[price] == pytest.approx(start["factor"] * theirs[price], rel=1e-5)
        assert ours["volume"] == pytest.approx(theirs["volume"], rel=1e-5)
        assert ours["close_quantiles"] == pytest.approx(
            {level: start["factor"] * price for level, price in theirs["close_quantiles"].items()},
            rel=1e-5,
        )
    assert wrong["error"]["fields"][0]["field"] == "anchor"
    assert "'last_close' or 'none'" in wrong["error"]["message"]


def test_a_series_gets_the_same_answer_in_a_batch_as_alone(client: TestClient) -> None:
    alone = client.post("/predict", json=request(symbol="A")).json()
    others = [request(symbol=name, ohlcv=bars(40 + n)) for n, name in enumerate("BCD")]
    batch = client.post("/predict/batch", json={"requests": [*others, request(symbol="A")]}).json()
    for bar, other in zip(batch["results"][-1]["predictions"], alone["predictions"], strict=True):
        assert bar["close"] == pytest.approx(other["close"], rel=1e-4)


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[NaN]", b'{"symbol": "\xff"}', b"[" * 5000, b'{"horizon": 1e999}']
)
def test_an_invalid_body_is_a_422_with_the_usual_error_format(
    client: TestClient, path: str, body: bytes
) -> None:
    response = client.post(path, content=body)
    assert response.status_code == 422
    assert error_of(response)["code"] == "invalid_input"


def test_a_refusal_names_the_row_and_the_field(client: TestClient) -> None:
    rows = bars()
    rows[17]["open"] = "9"
    error = error_of(client.post("/predict", json=request(ohlcv=rows)))
    assert error["message"] == 'row 17: open: Input should be a valid number, got "9"'
    assert error["fields"][0]["field"] == "ohlcv.17.open"


def test_unknown_paths_and_methods_are_refused_with_the_usual_error_format(
    client: TestClient,
) -> None:
    assert error_of(client.get("/nothing"))["code"] == "not_found"
    response = client.get("/predict")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert error_of(response)["code"] == "method_not_allowed"


def test_a_body_above_the_limit_is_a_413_whether_its_length_is_declared_or_not(
    nano_checkpoint: Checkpoint,
) -> None:
    with TestClient(create_app(Settings(max_body_mb=1), checkpoint=nano_checkpoint)) as client:
        declared = client.post("/predict", content=b" " * 2**20 + b"x")
        chunked = client.post("/predict", content=iter([b" " * 2**19] * 3))
    for response in (declared, chunked):
        assert response.status_code == 413
        assert error_of(response)["code"] == "body_too_large"


def test_an_endless_body_is_given_up(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.01)
    sent: list[Message] = []

    async def nothing_more() -> Message:
        await asyncio.sleep(10)
        raise AssertionError("waited for the body")

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
    asyncio.run(client.app({**scope, "query_string": b""}, nothing_more, send))
    assert sent[0]["status"] == 408
    assert b"request_timeout" in sent[1]["body"]


def test_with_a_key_every_route_but_health_requires_it(nano_checkpoint: Checkpoint) -> None:
    with TestClient(create_app(Settings(api_key="geheim"), checkpoint=nano_checkpoint)) as client:
        assert client.get("/health").status_code == 200
        for path in ("/metrics", "/docs", "/openapi.json", "/predict", "/nothing"):
            for headers in ({}, {"X-API-Key": "falsch"}, {"X-API-Key": "gehéim"}):
                refused = client.get(path, headers={k: v.encode() for k, v in headers.items()})
                assert refused.status_code == 401
                assert error_of(refused)["code"] == "unauthorized"
        assert client.get("/metrics", headers={"X-API-Key": "geheim"}).status_code == 200


def test_metrics_accept_the_key_as_a_bearer_token_for_prometheus(
    nano_checkpoint: Checkpoint,
) -> None:
    with TestClient(create_app(Settings(api_key="geheim"), checkpoint=nano_checkpoint)) as client:

        def status(path: str, **headers: str) -> int:
            return client.get(path, headers=headers).status_code

        assert status("/metrics", Authorization="Bearer geheim") == 200
        assert status("/metrics", Authorization="bearer geheim ") == 200
        assert status("/metrics", **{"X-API-Key": "geheim", "Authorization": "Bearer hf_x"}) == 200
        for wrong in ("Bearer falsch", "Bearer", "Basic geheim", "geheim", ""):
            assert status("/metrics", Authorization=wrong) == 401
        assert status("/docs", Authorization="Bearer geheim") == 401


def test_a_valid_request_id_is_kept_and_any_other_replaced(client: TestClient) -> None:
    kept = client.get("/health", headers={"X-Request-ID": "job-42.a"})
    assert kept.headers["x-request-id"] == "job-42.a"
    for strange in ("", "a b", "x" * 65):
        made = client.get("/health", headers={"X-Request-ID": strange}).headers["x-request-id"]
        assert len(made) == 32


def test_large_answers_are_compressed_if_the_caller_accepts_it(client: TestClient) -> None:
    data = request(return_paths=True)
    packed = client.post("/predict", json=data, headers={"Accept-Encoding": "gzip"})
    plain = client.post("/predict", json=data, headers={"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert packed.json() == plain.json()


def test_an_internal_failure_is_logged_in_full_and_hidden_from_the_caller(
    nano_checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = create_app(Settings(), checkpoint=nano_checkpoint)
    with TestClient(app) as client:
        engine = app.state.service.forecaster._engine
        monkeypatch.setattr(engine, "work", lambda prompts: 1 / 0)
        response = client.post("/predict", json=request(), headers={"X-Request-ID": "r1"})
        monkeypatch.undo()
        assert client.post("/predict", json=request()).status_code == 200
    assert response.status_code == 500
    assert response.headers["x-request-id"] == "r1"
    assert error_of(response) == {
        "code": "internal_error",
        "message": "the service failed; its log says why",
    }
    assert "ZeroDivisionError" in caplog.text
    assert "request r1 failed" in caplog.text


@pytest.mark.parametrize("where", ["prepare", "_engine.work", "answer"])
def test_any_failure_of_one_item_is_the_error_of_that_item(
    nano_checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
) -> None:
    app = create_app(Settings(), checkpoint=nano_checkpoint)
    with TestClient(app) as client:
        forecaster = app.state.service.forecaster
        owner, name = (Prepared, where) if where == "answer" else (forecaster, where)
        if where == "_engine.work":
            owner, name = forecaster._engine, "work"
        real = getattr(owner, name)

        def fails_for_one(*args: Any) -> Any:
            if re.search(r"seed'?[:=] ?666\b", repr(args)):
                raise ZeroDivisionError("inside")
            return real(*args)

        monkeypatch.setattr(owner, name, fails_for_one)
        items = [request(symbol="A"), request(symbol="B", seed=666), request(symbol="C")]
        results = client.post("/predict/batch", json={"requests": items}).json()["results"]
    assert [(result["ok"], result["symbol"]) for result in results] == [
        (True, "A"),
        (False, "B"),
        (True, "C"),
    ]
    assert results[1]["error"] == {
        "code": "internal_error",
        "message": "the service failed; its log says why",
    }
    assert caplog.text.count("ZeroDivisionError: inside") == 1


def test_too_much_work_in_one_request_is_a_413_with_the_limit(nano_checkpoint: Checkpoint) -> None:
    with TestClient(create_app(Settings(max_work=999), checkpoint=nano_checkpoint)) as client:
        response = client.post("/predict", json=request(horizon=100, samples=10))
        assert response.status_code == 413
        error = error_of(response)
        assert error["code"] == "too_much_work"
        assert "expected at most 999" in error["message"]
        assert client.post("/predict", json=request()).status_code == 200


def test_metrics_count_requests_series_and_paths(nano_checkpoint: Checkpoint) -> None:
    with TestClient(create_app(Settings(), checkpoint=nano_checkpoint)) as client:
        batch = client.post("/predict/batch", json={"requests": [request(), request(), {}]})
        alone = client.post("/predict", json=request(samples=4, anchor="none"))
        client.get("/nothing")
        lines = client.get("/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    route = 'kronos_http_requests_total{method="POST",route="/predict/batch",status="200"}'
    assert float(values[route]) == 1
    answers = [*batch.json()["results"][:2], alone.json()]
    errors = [
        abs(answer["last_close"] / answer["reconstruction"]["close"] - 1) for answer in answers
    ]
    error = 'kronos_reconstruction_error_{}{{model="kronos-nano"}}'
    assert float(values[error.format("count")]) == 3
    assert float(values[error.format("sum")]) == pytest.approx(sum(errors))
    other = 'kronos_http_requests_total{method="GET",route="other",status="404"}'
    assert float(values[other]) == 1
    assert float(values["kronos_engine_series_sum"]) == 3
    assert float(values["kronos_paths_total"]) == 20
    assert float(values["kronos_queue_series"]) == 0
    assert any(name.startswith('kronos_model_info{model="kronos-nano"') for name in values)


def test_monitoring_may_use_head_requests(client: TestClient) -> None:
    for path in ("/health", "/metrics", "/", "/docs"):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


def test_invented_http_methods_add_no_series_to_the_metrics(client: TestClient) -> None:
    for number in range(3):
        client.request(f"MADEUP{number}", "/health")
    lines = client.get("/metrics").text
    assert "MADEUP" not in lines
    assert 'kronos_http_requests_total{method="other",route="/health",status="405"} 3.0' in lines


@pytest.mark.slow
def test_a_large_batch_answer_is_streamed(client: TestClient) -> None:
    forecaster = client.app.state.service.forecaster
    checked = read_request(request(samples=64, horizon=100, return_paths=True), Settings())
    prepared = [forecaster.prepare(checked) for _ in range(4)]
    paths = forecaster.generate([prepared[0].prompt]) * 4

    pieces = list(batch_answer([prepared[0], {"ok": False}, *prepared[1:]], paths))

    assert len(pieces) > 2
    assert max(map(len, pieces)) < 2 * len(to_json(prepared[0].answer(paths[0]))) + CHUNK
    results = json.loads(b"".join(pieces))["results"]
    assert [result["ok"] for result in results] == [True, False, True, True, True]
    assert results[0] == {"ok": True, **prepared[0].answer(paths[0])}
    assert json.loads(b"".join(batch_answer([], []))) == {"results": []}


def test_the_openapi_example_is_a_request_that_works(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    [example] = document["components"]["schemas"]["ForecastRequest"]["examples"]
    answer = client.post("/predict", json=example).json()
    assert all(math.isfinite(bar["close"]) for bar in answer["predictions"])


def test_openapi_shows_the_bounds_of_the_settings(nano_checkpoint: Checkpoint) -> None:
    app = create_app(Settings(max_horizon=4, min_history=40, api_key="k"))
    schemas = app.openapi()["components"]["schemas"]
    properties = schemas["ForecastRequest"]["properties"]
    assert (properties["horizon"]["maximum"], properties["horizon"]["default"]) == (4, 4)
    assert properties["ohlcv"]["minItems"] == 40
    assert app.openapi()["paths"]["/predict"]["post"]["security"] == [{"ApiKey": []}]
    assert app.openapi()["paths"]["/health"]["get"]["security"] == []


def test_a_file_that_many_callers_request_first_is_prepared_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepared: list[str] = []
    others, others_wait = threading.Barrier(4), threading.Event()

    def prepare(content: bytes, name: str) -> pages.Asset:
        prepared.append(name)
        others_wait.wait(0.05)  # never set: gives the other callers time to come
        return pages.Asset(content, content, "text/css", "tag")

    def ask() -> None:
        others.wait()
        pages._asset("page.css")

    monkeypatch.setattr(pages.Asset, "of", prepare)
    pages._prepared.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        for asked in [pool.submit(ask) for _ in range(4)]:
            asked.result()
    pages._prepared.cache_clear()
    assert prepared == ["page.css"]
