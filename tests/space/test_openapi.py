"""Requests made up from the OpenAPI document: whatever is sent, the service keeps to it."""

from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from kronos_space.app import create_app
from kronos_space.model.checkpoint import Checkpoint
from kronos_space.settings import Settings

KEPT = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
OPERATIONS = [("GET", "/health"), ("GET", "/metrics"), ("POST", "/predict")]
OPERATIONS += [("POST", "/predict/batch")]


@pytest.fixture(scope="module")
def document(nano_checkpoint: Checkpoint) -> Iterator[schemathesis.BaseSchema]:
    # short histories, since a made-up one is rarely valid when it is long
    small = Settings(min_history=2, max_history=8, max_horizon=4, max_samples=4, max_batch=3)
    app = create_app(small, checkpoint=nano_checkpoint)
    with TestClient(app):
        yield schemathesis.openapi.from_asgi("/openapi.json", app)


def test_every_operation_is_tried(document: schemathesis.BaseSchema) -> None:
    operations = [operation.ok() for operation in document.get_all_operations()]
    assert sorted((one.method.upper(), one.path) for one in operations) == sorted(OPERATIONS)


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [
        (*operation, mode)
        for operation in OPERATIONS
        for mode in GenerationMode
        # a GET has nothing that could be wrong
        if mode is GenerationMode.POSITIVE or operation[0] == "POST"
    ],
)
def test_made_up_requests_are_answered_as_documented(
    document: schemathesis.BaseSchema, method: str, path: str, mode: GenerationMode
) -> None:
    # a batch is fine even when each of its requests is refused
    checks = [*KEPT, negative_data_rejection] if path == "/predict" else KEPT

    @given(document[path][method].as_strategy(generation_mode=mode))
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    def keeps_to_the_document(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=checks)

    keeps_to_the_document()
