"""Build and run the bots' image: `make image-test`. It takes minutes and is not in `make test`.

The image runs as the chart specifies: with a read-only disk, as user 1000, without capabilities,
in 2 GiB. The Hub, its Space and Postgres are processes on this machine.
"""

import json
import os
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.support import ROOT, containers
from tests.support.charts import pods, rendered, variables
from tests.support.containers import build, podman, start
from tests.support.hub import REPO, TOKEN, Hub
from tests.support.postgres import DatabaseProxy, running_postgres
from tests.support.space_server import launch

DOCKERFILE = ROOT / "tradingbot" / "Dockerfile"
IMAGE = "localhost/kronos-tradingbots"
HELD = (
    *("--read-only", "--tmpfs", "/tmp", "--user", "1000:1000", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--memory", "2g"),
)


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    try:
        containers.prepare()
    except containers.Unavailable as error:
        pytest.exit(f"make image-test: {error}", returncode=1)
    started = time.monotonic()
    build(ROOT, IMAGE, dockerfile=DOCKERFILE)
    print(f"\nbuilt in {time.monotonic() - started:.0f} s")
    yield IMAGE
    containers.release()


@pytest.fixture
def candles(tmp_path: Path) -> Path:
    """Daily candles of two tickers, readable by a container."""
    folder = tmp_path / "candles"
    folder.mkdir()
    days = [date(2024, 1, 1) + timedelta(days=number) for number in range(120)]
    for symbol, price in (("BTC-USD", 60_000.0), ("ETH-USD", 3_000.0)):
        rows = [f"{day},{price},{price + 9},{price - 9},{price + day.day % 7},1" for day in days]
        (folder / f"{symbol}.csv").write_text("\n".join(["date,open,high,low,close,volume", *rows]))
    for path in (folder, *tmp_path.parents):  # user 1000 needs access
        if path.is_relative_to("/tmp/pytest-of-root") or path == folder:
            path.chmod(path.stat().st_mode | 0o055)
    return folder


def test_the_charts_nightly_job_runs_in_the_image(image: str, candles: Path) -> None:
    nano = {"KRONOS_MODEL": "kronos-nano", "KRONOS_THREADS": "1"}
    with (
        Hub(launch=launch, environ={**os.environ, **nano}) as hub,
        running_postgres() as server,
        DatabaseProxy(server, "postgres") as database,  # TCP: only root may use the server's socket
    ):
        pod = pods(rendered())["tradingbot-kronos"]
        [container] = pod["containers"]
        secret = {"HF_TOKEN": TOKEN, "DATABASE_URL": database.url}
        environ = {
            name: value if isinstance(value, str) else secret.get(value[1])
            for name, value in variables(pod).items()
        } | {
            "HF_ENDPOINT": hub.url,
            "HF_SPACE_REPO": REPO,
            "KRONOS_SPACE_URL": hub.space_url,
            "KRONOS_DATA_SOURCE": "csv:/candles",
            "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        }
        status, log = run(
            image,
            *(f"--env={name}={value}" for name, value in environ.items() if value is not None),
            f"--volume={candles}:/candles:ro",
            command=(*container["command"], *container.get("args", [])),
            network="host",
        )
        assert status == 0, log
        assert (hub.stage, hub.running) == ("PAUSED", False)
        report = json.loads(log.splitlines()[-1])
        assert report["counts"]["stored"] == 2
        [(rows,)] = server.execute("SELECT count(*) FROM kronos_predictions")
        assert rows == 10


def test_the_image_has_no_root_user_compiler_torch_or_cache(image: str) -> None:
    status, log = run(image, command=("sh", "-c",
        "id -u; for tool in cc gcc g++ clang make; do command -v $tool; done; "
        "find / -xdev '(' -iname 'torch*' -o -name '*.whl' -o -path '*/.cache/pip' ')' "
        "-not -path '/proc/*' -not -path '/sys/*' -not -path '/usr/share/python-wheels/*' "
        "2>/dev/null; true",
    ))  # fmt: skip
    assert (status, log) == (0, "1000\n")


def test_the_image_contains_the_tested_versions(image: str) -> None:
    status, log = run(image, command=("python", "-c",
        "from importlib.metadata import distributions as all\n"
        "for one in all(path=['/opt/bots']): print(one.name, one.version)",
    ))  # fmt: skip
    assert status == 0, log
    tested = {
        line.replace("==", " ").lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    installed = {line.lower().replace("_", "-") for line in log.splitlines()}
    assert installed
    assert installed <= tested


def test_files_left_out_of_the_image_are_not_needed(image: str) -> None:
    """All our modules can be imported, and bots can use the packages that were made smaller."""
    code = """
import importlib, io, pkgutil, warnings
warnings.simplefilter("ignore")
import tradingbot
for module in pkgutil.walk_packages(tradingbot.__path__, "tradingbot."):
    if ".migrations." not in module.name:  # Alembic's, which run in the job
        importlib.import_module(module.name)

import numpy, pandas, zstandard
numpy.show_config(mode="dicts")
numpy.linalg.inv(numpy.eye(3)), numpy.fft.fft(numpy.ones(4)), numpy.random.default_rng(1).normal()
pandas.read_html(io.StringIO("<table><tr><td>1</td></tr></table>"))  # by lxml
pandas.Series([1.0], pandas.date_range("2024", periods=1, tz="America/New_York"))
assert zstandard.decompress(zstandard.compress(b"x")) == b"x"

import curl_cffi.requests, huggingface_hub, langsmith, yfinance
from bs4 import BeautifulSoup
curl_cffi.requests.Session(), huggingface_hub.HfApi(), langsmith.Client
assert BeautifulSoup("<p>a</p>", "lxml").p.text == "a"

from langchain_core.runnables import RunnableLambda
assert RunnableLambda(lambda x: x + 1).invoke(1) == 2

from rich.console import Console
from rich.markdown import Markdown
from rich.traceback import Traceback
console = Console(file=io.StringIO())
try:
    1 / 0
except ZeroDivisionError:
    console.print(Traceback(show_locals=True), Markdown("```bash\\nls\\n```"))
assert "ZeroDivisionError" in console.file.getvalue()
"""
    status, log = run(image, command=("python", "-c", code))
    assert status == 0, log


def test_a_start_compiles_no_python_files(image: str) -> None:
    """All modules of a run have bytecode in the image, because user 1000 could not store it."""
    code = (
        "import sys, pathlib\n"
        "import tradingbot.cli.main, tradingbot.data.service\n"
        "import tradingbot.persistence.forecasts\n"
        "import huggingface_hub.hf_api, yfinance, exchange_calendars, psycopg2\n"
        "files = [vars(m).get('__cached__') for m in list(sys.modules.values())]\n"
        "print([f for f in files if f and not pathlib.Path(f).exists()])\n"
    )
    assert run(image, command=("python", "-B", "-c", code)) == (0, "[]\n")


def test_the_image_is_small(image: str) -> None:
    whole, base = containers.size(image), containers.size(containers.BASE)
    print(f"\nimage {whole / 1e6:.0f} MB, {(whole - base) / 1e6:.0f} MB of them above the base")
    assert whole <= 400e6


def run(
    image: str, *options: str, command: tuple[str, ...], network: str = "none"
) -> tuple[int, str]:
    """Run a container with the chart's restrictions until it ends; return status and output."""
    container = start(image, *HELD, *options, command=command, network=network)
    status = int(podman("wait", container))
    log = podman("logs", container)
    podman("rm", container)
    return status, log
