"""Run Debian's Prometheus and promtool; run this module to install them."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests

from tests.support.debian import installed
from tradingbot.space.local import free_port

MISSING = "no prometheus for the tests of metrics: install Debian's (apt-get install prometheus)"


def program(name: str) -> str:
    """Return the path of prometheus or promtool.

    Raises:
        FileNotFoundError: With instructions, if it is missing.
    """
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(MISSING)
    return found


def promtool(*arguments: str | Path, text: str = "") -> str:
    """Return promtool's output. Raises AssertionError with it if promtool finds a fault."""
    done = subprocess.run(
        [program("promtool"), *map(str, arguments)], input=text, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def check_metrics(text: str) -> None:
    assert promtool("check", "metrics", text=text) == "", "promtool has a remark"


@dataclass
class Prometheus:
    """A running server."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the current series of an expression."""
        answer = requests.post(f"{self.url}/api/v1/query", data={"query": expression}, timeout=20)
        document = answer.json()
        assert document["status"] == "success", (expression, document)
        result: list[dict[str, Any]] = document["data"]["result"]
        return result

    def wait_for(
        self, expression: str, done: Callable[[list[dict[str, Any]]], bool] = bool
    ) -> None:
        """Poll an expression until `done` accepts its series."""
        deadline = time.monotonic() + 60
        while not done(found := self.query(expression)):
            assert time.monotonic() < deadline, (expression, found)
            time.sleep(0.05)


@contextmanager
def running_prometheus(scrape_configs: list[dict[str, Any]]) -> Iterator[Prometheus]:
    """Run a server that scrapes these targets, every half second by default."""
    port = free_port()
    with TemporaryDirectory(prefix="kronos-prometheus-") as folder:
        config = Path(folder, "prometheus.yml")
        config.write_text(  # JSON is valid YAML
            json.dumps(
                {"global": {"scrape_interval": "500ms", "scrape_timeout": "500ms"},
                 "scrape_configs": scrape_configs}
            )
        )  # fmt: skip
        command = [
            program("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=error",
        ]  # fmt: skip
        with subprocess.Popen(command, env={**os.environ, "GOMAXPROCS": "1"}) as process:
            try:
                server = Prometheus(f"http://127.0.0.1:{port}")
                _wait_until_ready(server.url, process)
                yield server
            finally:
                process.kill()


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(requests.RequestException):
            if requests.get(f"{url}/-/ready", timeout=5).ok:
                return
        time.sleep(0.02)
    raise AssertionError("prometheus does not get ready")


if __name__ == "__main__":
    sys.exit(installed(lambda: program("promtool"), "prometheus", purpose="the tests of metrics"))
