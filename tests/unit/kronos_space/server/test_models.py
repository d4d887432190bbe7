"""A service with several models."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from starlette.testclient import TestClient

from kronos_space.app import create_app
from kronos_space.settings import Settings, SettingsError
from kronos_space.weights.catalogue import WrongCheckpoint, check_distinct
from kronos_space.weights.checkpoint import Checkpoint
from tests.support.candles import request
from tests.support.finetuning import tiny_model


@pytest.fixture(scope="module")
def both(nano_checkpoint: Checkpoint) -> Iterator[TestClient]:
    """kronos-nano, and a made-up model with a shorter context."""
    model, tokenizer = tiny_model()
    other = Checkpoint("me/Other", "sha256:1", 64, model.eval(), tokenizer.eval())
    app = create_app(Settings(), checkpoint=nano_checkpoint, others=[other])
    with TestClient(app) as client:
        yield client


def answer(client: TestClient, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = client.post("/predict", json=request(**fields)).json()
    return body


def test_health_lists_all_models_the_first_one_first(both: TestClient) -> None:
    health = both.get("/health").json()
    assert [model["model"] for model in health["models"]] == ["kronos-nano", "me/Other"]
    assert health["models"][0] == {name: health[name] for name in ("model", "model_revision")}
    metrics = both.get("/metrics").text
    assert 'kronos_model_info{model="me/Other",revision="sha256:1"} 1.0' in metrics


def test_a_request_uses_the_model_it_names_or_else_the_first(
    both: TestClient, client: TestClient
) -> None:
    fields = {"seed": 5, "samples": 3}
    assert answer(both, **fields) == answer(client, **fields)
    for name in ("me/Other", "other", "OTHER"):
        named = answer(both, **fields, model=name)
        assert (named["model"], named["model_revision"]) == ("me/Other", "sha256:1")
        assert named["predictions"] != answer(client, **fields)["predictions"]
    assert 'kronos_reconstruction_error_count{model="me/Other"} 3.0' in both.get("/metrics").text


@pytest.mark.parametrize("name", ["kronos-base", "me/", "Other/me", "x" * 200])
def test_an_unknown_model_is_refused_with_the_available_names(both: TestClient, name: str) -> None:
    response = both.post("/predict", json=request(model=name))
    assert response.status_code == 422
    error = response.json()["error"]
    assert error["message"].endswith(": expected one of kronos-nano, me/Other")
    assert [field["field"] for field in error["fields"]] == ["model"]


@pytest.mark.parametrize("name", ["", "x" * 201, 7, ["kronos-nano"]])
def test_an_invalid_model_name_is_refused(both: TestClient, name: object) -> None:
    assert both.post("/predict", json=request(model=name)).status_code == 422


def test_each_series_of_a_batch_uses_the_model_it_names(both: TestClient) -> None:
    asked = [
        request(symbol=f"S{number}", seed=number, samples=3, model=model)
        for number, model in enumerate(["me/Other", None, "kronos-base", "other", "kronos-nano"])
    ]
    results = both.post("/predict/batch", json={"requests": asked}).json()["results"]
    models = [item.get("model") for item in results]
    assert models == ["me/Other", "kronos-nano", None, "me/Other", "kronos-nano"]
    assert "expected one of kronos-nano, me/Other" in results[2]["error"]["message"]
    for body, result in zip(asked, results, strict=True):
        if result["ok"]:
            alone = both.post("/predict", json=body).json()
            quantiles = alone["predictions"][0]["close_quantiles"]
            assert result["predictions"][0]["close_quantiles"] == pytest.approx(quantiles)


def test_a_series_beyond_its_models_context_fails_alone(both: TestClient) -> None:
    asked = [request(horizon=60, samples=1, model=model) for model in ("other", None)]
    results = both.post("/predict/batch", json={"requests": asked}).json()["results"]
    assert [result["ok"] for result in results] == [False, True]
    assert "me/Other sees 64 bars" in results[0]["error"]["message"]


def test_two_models_with_the_same_name_are_refused(nano_checkpoint: Checkpoint) -> None:
    with pytest.raises(WrongCheckpoint, match="two checkpoints have the name kronos-nano"):
        check_distinct(["kronos-nano", "other", "kronos-nano"])
    twice = create_app(Settings(), checkpoint=nano_checkpoint, others=[replace(nano_checkpoint)])
    with pytest.raises(WrongCheckpoint), TestClient(twice):
        pass


def test_several_checkpoints_are_named_with_commas_between_them() -> None:
    named = Settings.from_env({"KRONOS_MODEL": "auto", "KRONOS_MODELS": " kronos-mini, /tuned "})
    assert named.checkpoints == ["kronos-mini", "/tuned"]
    assert Settings.from_env({"KRONOS_MODEL": "a,b", "KRONOS_MODELS": " "}).checkpoints == ["a,b"]


@pytest.mark.parametrize("value", [",", "a,,b", "a,", "a, a", ",a"])
def test_a_list_of_checkpoints_with_a_gap_or_one_twice_is_refused(value: str) -> None:
    with pytest.raises(SettingsError, match="expected names with commas"):
        Settings.from_env({"KRONOS_MODELS": value})
