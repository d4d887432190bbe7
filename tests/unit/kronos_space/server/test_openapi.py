"""The OpenAPI document: its examples work, and generated requests get documented answers."""

from collections.abc import Iterator

import pytest
import schemathesis
from starlette.testclient import TestClient

from kronos_space import schemas
from kronos_space.app import create_app
from kronos_space.server import openapi
from kronos_space.settings import Settings
from kronos_space.weights.checkpoint import Checkpoint
from tests.support import fuzz


@pytest.fixture(scope="module")
def document(nano_checkpoint: Checkpoint) -> Iterator[schemathesis.BaseSchema]:
    app = create_app(Settings.from_env(fuzz.BOUNDS), checkpoint=nano_checkpoint)
    with TestClient(app):
        yield schemathesis.openapi.from_asgi("/openapi.json", app)


@pytest.mark.slow
def test_every_operation_is_tested(document: schemathesis.BaseSchema) -> None:
    operations = [operation.ok() for operation in document.get_all_operations()]
    tried = {(method, path) for method, path, _ in fuzz.KINDS}
    assert {(item.method.upper(), item.path) for item in operations} == tried


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path", "kind"), fuzz.KINDS)
def test_generated_requests_get_documented_answers(
    document: schemathesis.BaseSchema, method: str, path: str, kind: str
) -> None:
    fuzz.fuzz(document, method, path, kind, many=20, seed=4)


def test_every_route_and_every_error_has_an_example(client: TestClient) -> None:
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for operation in operations.values():
            assert operation["tags"] in (["Forecasts"], ["Operation"])
            for status, answer in operation["responses"].items():
                [content] = answer["content"].values()
                assert content["example"], (path, status)
                if int(status) >= 400:
                    schemas.ErrorResponse.model_validate(content["example"], strict=True)
            for content in operation.get("requestBody", {}).get("content", {}).values():
                assert content["examples"]


def test_the_examples_of_answers_fit_their_schemas() -> None:
    schemas.HealthResponse.model_validate(openapi.HEALTH, strict=True)
    schemas.ForecastResponse.model_validate(openapi.FORECAST, strict=True)
    schemas.BatchResponse.model_validate(openapi.BATCH, strict=True)


def test_the_examples_of_requests_are_answered(client: TestClient) -> None:
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                for example in content["examples"].values():
                    answer = client.post(path, json=example["value"])
                    assert answer.status_code == 200
                    assert all(result["ok"] for result in answer.json().get("results", []))


def test_the_fuzzer_recognises_impossible_forecasts() -> None:
    """This shows that the fuzzer's check can fail."""
    with pytest.raises(AssertionError):
        fuzz._check_forecasts(422, {})
    bar = {"open": 1.0, "high": 0.9, "low": 0.5, "close": 0.8, "volume": 0.0}
    with pytest.raises(AssertionError):
        fuzz._check_forecasts(200, {"predictions": [bar]})
