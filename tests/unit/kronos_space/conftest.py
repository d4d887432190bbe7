"""Run the service in this process, with the bundled model, for tests without a server process."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from kronos_space.app import create_app
from kronos_space.settings import Settings
from kronos_space.weights.checkpoint import Checkpoint, load_checkpoint
from tests.support.checkpoints import NANO


@pytest.fixture(scope="session")
def nano_checkpoint() -> Checkpoint:
    return load_checkpoint(str(NANO))


@pytest.fixture(scope="session")
def client(nano_checkpoint: Checkpoint) -> Iterator[TestClient]:
    """A client of one running service, shared by the tests."""
    with TestClient(create_app(Settings(), checkpoint=nano_checkpoint)) as client:
        yield client
