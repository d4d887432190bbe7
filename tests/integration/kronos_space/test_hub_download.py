"""Published models are downloaded at their pinned revision, verified, and only on request.

The Hub is a local HTTP server. The client is the real one, in separate processes because it reads
HF_ENDPOINT at import. The weights are made up, so the tests replace the catalogue's checksums.
"""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kronos_space.weights.catalogue import CATALOGUE
from tests.support.checkpoints import write_checkpoint
from tests.support.commands import run

MINI = CATALOGUE["kronos-mini"]

SCRIPT = """
import dataclasses, logging, sys
from kronos_space.weights.catalogue import CATALOGUE
mini = CATALOGUE["kronos-mini"]
CATALOGUE["kronos-mini"] = dataclasses.replace(
    mini, model_sha256=sys.argv[1], tokenizer_sha256=sys.argv[2])
from kronos_space.weights.checkpoint import CheckpointError, load_checkpoint
logging.basicConfig(format="%(message)s")
for name in sys.argv[3:]:
    try:
        checkpoint = load_checkpoint(name)
        print("loaded", checkpoint.name, checkpoint.revision, checkpoint.max_context)
    except CheckpointError as error:
        print("error", error)
"""
FETCH = (
    SCRIPT.partition("from kronos_space.weights.checkpoint")[0]
    + """
from kronos_space.weights.download import main
sys.exit(main(["kronos-mini"]))
"""
)


class Hub:
    """Answer HEAD and GET of /{repo}/resolve/{revision}/{file}, as the Hub does."""

    def __init__(self, folder: Path) -> None:
        self.files = {
            f"/{repo}/resolve/{revision}/{file}": (revision, (folder / part / file).read_bytes())
            for part, repo, revision in (
                ("model", MINI.model_id, MINI.model_revision),
                ("tokenizer", MINI.tokenizer_id, MINI.tokenizer_revision),
            )
            for file in ("config.json", "model.safetensors")
        }
        self.asked: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer(body=False)

            def do_GET(self) -> None:
                self.answer(body=True)

            def answer(self, body: bool) -> None:
                hub.asked.append(self.path)
                if self.path not in hub.files:
                    self.send_response(404)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                revision, content = hub.files[self.path]
                self.send_response(200)
                self.send_header("X-Repo-Commit", revision)
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("published"))


@pytest.fixture
def hub(weights: Path) -> Iterator[Hub]:
    hub = Hub(weights)
    thread = threading.Thread(target=hub.server.serve_forever)
    thread.start()
    yield hub
    hub.server.shutdown()
    hub.server.server_close()
    thread.join()


def load(
    url: str, home: Path, weights: Path, *names: str, sha256: str = "", script: str = SCRIPT
) -> str:
    checksums = [
        hashlib.sha256((weights / part / "model.safetensors").read_bytes()).hexdigest()
        for part in ("model", "tokenizer")
    ]
    checksums[0] = sha256 or checksums[0]
    environ = os.environ | {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    done = run("-c", script, *checksums, *names, cwd=home, env=environ, family="libraries")
    assert done.returncode == 0, done.stderr
    return done.stderr + done.stdout


def test_a_published_model_is_downloaded_once_at_its_pinned_revision(
    hub: Hub, tmp_path: Path, weights: Path
) -> None:
    output = load(hub.url, tmp_path, weights, "kronos-mini", "auto")

    loaded = f"loaded NeoQuasar/Kronos-mini {MINI.model_revision} 2048"
    assert output.count(loaded) == 2, output
    assert "kronos-nano" not in output
    downloads = [path for path in hub.asked if path in hub.files]
    assert set(downloads) == set(hub.files)
    # one HEAD and one GET for each file; "auto" downloaded nothing
    assert len(downloads) == 2 * len(hub.files)


def test_a_file_with_another_checksum_is_refused(hub: Hub, tmp_path: Path, weights: Path) -> None:
    output = load(hub.url, tmp_path, weights, "kronos-mini", sha256="0" * 64)

    assert "error" in output
    assert "SHA-256 is" in output
    assert "delete the file" in output


def test_auto_falls_back_to_the_bundled_model_without_the_hub_and_says_so(
    tmp_path: Path, weights: Path
) -> None:
    nobody = "http://127.0.0.1:9"  # the discard port: connections are refused

    output = load(nobody, tmp_path, weights, "auto")

    assert "loaded kronos-nano sha256:" in output
    assert "KRONOS_MODEL=auto: NeoQuasar/Kronos-mini is not available from the Hub" in output


def test_a_model_requested_by_name_is_never_replaced(
    hub: Hub, tmp_path: Path, weights: Path
) -> None:
    hub.files.clear()

    output = load(hub.url, tmp_path, weights, "kronos-mini")

    assert "error NeoQuasar/Kronos-mini@f4e68697 is not available from the Hub" in output
    assert "loaded" not in output


def test_a_model_fetched_ahead_of_time_needs_no_hub_at_the_start(
    hub: Hub, tmp_path: Path, weights: Path
) -> None:
    fetched = load(hub.url, tmp_path, weights, script=FETCH)
    nobody = "http://127.0.0.1:9"

    output = load(nobody, tmp_path, weights, "kronos-mini")

    assert f"snapshots/{MINI.model_revision}" in fetched
    assert f"loaded NeoQuasar/Kronos-mini {MINI.model_revision} 2048" in output


def test_fetching_needs_no_torch_and_uses_the_exact_name(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; "
    code += "from kronos_space.weights.download import main; sys.exit(main(['kronos-maxi']))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr == (
        "kronos_space: 'kronos-maxi': expected one of kronos-mini, kronos-small, kronos-base\n"
    )
