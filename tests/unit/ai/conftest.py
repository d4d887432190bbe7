"""A scripted language model server for the tests; the developer's API keys are removed."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import certifi
import pytest

from tests.support.openai_server import Answer, ReceivedRequests, openai_server


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's API keys away from the tests."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENROUTER_API_KEY", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session", autouse=True)
def one_certificate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Load one certificate instead of all; no server here uses TLS, and OpenAI clients load all
    twice.
    """
    first, end, _ = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----\n")
    file = tmp_path_factory.mktemp("certificates") / "one.pem"
    file.write_text(first + end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(file))
        yield


@pytest.fixture(autouse=True)
def no_warnings_of_openai() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="openai|langchain_openai")
        yield


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ReceivedRequests]]:
    """Start a server with these answers and configure it in the environment:
    `served(text_answer("Hold."))`.
    """
    with ExitStack() as servers:

        def serve(*answers: Answer) -> ReceivedRequests:
            url, asked = servers.enter_context(openai_server(*answers))
            monkeypatch.setenv("OPENAI_BASE_URL", url)
            monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
            monkeypatch.setenv("KRONOS_AI_MODEL", "some/model")
            return asked

        yield serve
