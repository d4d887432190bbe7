"""The examples of the docs run: Python blocks unchanged, commands in a shell."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.support import ROOT
from tests.support.charts import CHART, helm
from tests.support.cluster import RUN_NOW, Cluster, shell
from tests.support.commands import forked_python
from tests.support.commands import run as forked
from tests.support.doc_pages import Block, blocks, commands, pages
from tests.support.openai_server import openai_server, text_answer
from tradingbot.persistence.engine import dispose_engines, get_db_session

INSTALL = "helm upgrade --install tradingbots ./helm/tradingbots --namespace tradingbots-2025"
PORT = "http://127.0.0.1:7860"  # the docs' address; the tests use another port

# Commands that are not run as written: a pattern, and the reason, or where they are run.
ELSEWHERE = [
    (
        r"make (run|demo|wheel|test|docs|lint|bench.*|combination.*|image-test|help|serve|chaos.*"
        r"|fuzz)",
        "the Makefile's",
    ),
    (r"sudo apt-get install .*", "tests/images/fresh_machines.py"),
    (r"pip install (-c constraints.txt|-e|git\+) ?.*", "make and the images do"),
    (r".*--source yahoo .*", "asks Yahoo; tests/unit/data has one of its own"),
    (r"kronosbot report --backtest .*", "tests/unit/walk_forward/test_postprocessing_chain.py"),
    (r"kronosbot calibrate --backtest record.csv", "tests/integration/cli/test_calibrate.py"),
    (r"claude mcp add .*", "wants Claude Code"),
    (r"KRONOS_NOTIFY=.* kronosbot notify --test", "tests/integration/monitoring/test_notify.py"),
    (r"kronosbot partition", "Postgres alone; tests/unit/persistence/test_partitions.py"),
    (r"kronosbot mcp --http", "tests/integration/cli/test_mcp.py"),
    (r"docker (build|push|run|login|compose) .*", "tests/images builds and runs the images"),
    (r"kronos-space (finetune|promote) .*", "tests/integration/kronos_space/test_finetune.py"),
    (r"kronos-space publish .*", "tests/integration/kronos_space/test_publish.py"),
    (r"(\.venv/bin/)?kronos-space deploy .*", "tests/integration/kronos_space/test_deploy.py"),
    (r"(export|SPACE=|TAG=|RUN=|cd ).*", "for the commands that follow"),
    (r"(mkdir -m 700|read -rsp|printf %s|psql) .*", "asks a person, or a person's database"),
    (r"git (clone|pull).*", "asks the network"),
    (r"(createdb|dropdb|DATABASE_URL=.*restore_drill) ?.*", "tests/chart/test_backup.py"),
    (r"(sudo|systemctl|journalctl) .*|.* sudo .*", "tests/docs/test_one_machine.py"),
    (r"\(umask 077; .*", "asks Docker"),
    (r"kronosbot space (wake|pause)", "tests/integration/cli/test_space.py"),
    (r"curl .*\$SPACE.*", "the same request is in the README"),
    (r"(kubectl create job|kubectl logs|helm test) .*", "tests/chart/test_in_a_cluster.py"),
    (
        r"kubectl (get|patch|delete|rollout|apply) .*|.*\| (kubectl apply|kubeseal) .*",
        "needs a real cluster",
    ),
    (r"helm uninstall .*", "needs a real cluster"),
    (r"pg_(dump|restore) .*", "a program of Postgres in the server's version"),
]


@pytest.fixture(scope="module")
def forecasts(space_url: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after `make run`: kronos.db contains the sample's forecasts."""
    folder = tmp_path_factory.mktemp("made")
    environ = {**os.environ, "KRONOS_SPACE_URL": space_url}
    done = forked("tradingbot.kronosbot", "--source", "sample", cwd=folder, env=environ)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def project(
    forecasts: Path, space_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The folder in which examples run: a database with forecasts, a Space, candles."""
    shutil.copy(forecasts / "kronos.db", tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "kronos_space").symlink_to(ROOT / "kronos_space")  # contains the sample candles
    (tmp_path / ".venv").symlink_to(sys.prefix)
    write_candles(tmp_path / "my-candles")
    monkeypatch.chdir(tmp_path)
    tools = tmp_path / ".tools"
    tools.mkdir()
    (tools / "python").symlink_to(forked_python())
    (tools / "kronosbot").symlink_to(forked_python("tradingbot.kronosbot"))
    path = (str(tools), f"{tmp_path}/.venv/bin", os.environ["PATH"])
    monkeypatch.setenv("PATH", os.pathsep.join(path))
    monkeypatch.setenv("KRONOS_SPACE_URL", space_url)
    monkeypatch.setenv("KRONOS_DATA_SOURCE", "sample")
    monkeypatch.setenv("KRONOS_MODEL", "kronos-nano")
    with openai_server(text_answer("HOLD. Nothing speaks for a trade.")) as (url, _):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("KRONOS_AI_MODEL", "a-model")
        yield tmp_path
    dispose_engines()


def write_candles(folder: Path) -> None:
    folder.mkdir()
    days = [f"2024-{month:02}-{day:02}" for month in range(1, 5) for day in range(1, 29)]
    rows = [f"{day},100,102,99,{100 + number % 5 / 4},1000" for number, day in enumerate(days)]
    (folder / "BTC-USD.csv").write_text("\n".join(["date,open,high,low,close,volume", *rows]))


# Python -----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", sorted({block.page for block in blocks("python")}))
def test_the_python_blocks_of_a_page_run_in_their_order(
    page: str, project: Path, space_url: str
) -> None:
    for block in (block for block in blocks("python") if block.page == page):
        output = io.StringIO()
        code = compile(block.text.replace(PORT, space_url), str(block), "exec")
        with contextlib.redirect_stdout(output):
            exec(code, {"__name__": "__main__"})
        if shown := output_after(block):
            assert output.getvalue() == shown, f"{block} prints something else"


def output_after(block: Block) -> str | None:
    """Return the output that the page shows: the text block directly below."""
    after = pages()[block.page].split(block.text, 1)[1].removeprefix("```\n")
    found = re.match(r"\n```text\n(.*?)^```$", after, re.MULTILINE | re.DOTALL)
    return found[1] if found else None


# shell ------------------------------------------------------------------------------------

BASH = [block for language in ("bash", "sh") for block in blocks(language)]


def elsewhere(command: str) -> bool:
    return any(re.fullmatch(pattern, command) for pattern, _ in ELSEWHERE)


def of_a_cluster(command: str) -> bool:
    return command.startswith(("kubectl", "helm"))


@pytest.mark.parametrize(
    "command",
    sorted({
        command for block in BASH for command in commands(block)
        if not elsewhere(command) and not of_a_cluster(command)
    }),
)  # fmt: skip
def test_an_example_command_runs(command: str, project: Path, space_url: str) -> None:
    tools = set(re.findall(r"(?:^|\| )(curl|jq|sqlite3)\b", command))
    if missing := [tool for tool in tools if not shutil.which(tool)]:
        pytest.skip(f"no {' and '.join(missing)} on this machine")
    done = run(["bash", "-o", "pipefail", "-euc", command.replace(PORT, space_url)])
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_cluster_commands_are_accepted_by_the_real_helm_and_kubectl(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "HF_TOKEN").write_text("hf_a")
    (tmp_path / "home" / ".docker").mkdir(parents=True)
    (tmp_path / "home" / ".docker" / "config.json").write_text('{"auths": {}}')
    ran = 0
    for page in sorted({block.page for block in BASH}):
        mine = [
            command for block in BASH if block.page == page for command in commands(block)
            if of_a_cluster(command) and not elsewhere(command)
        ]  # fmt: skip
        with Cluster(tmp_path / page.replace("/", "-")) as cluster:
            if any(re.match("helm upgrade tradingbots ", command) for command in mine):
                shell(cluster, INSTALL)  # done on another page
            for command in mine:
                command = command.replace("--from-file=secrets", f"--from-file={secrets}")
                shell(cluster, f"TAG=8a1b345; {command}")
                ran += 1
    assert ran >= 6


def test_chart_values_in_the_docs_are_accepted_by_the_chart(tmp_path: Path) -> None:
    shown = [block for block in blocks("yaml") if "--8<--" not in block.text]
    assert len(shown) >= 4
    for block in shown:
        file = tmp_path / "values.yaml"
        file.write_text(block.text)
        assert "kind: CronJob" in helm("template", "tradingbots", CHART, "--values", file), block


def test_the_documented_manual_trigger_is_tested() -> None:
    for page in ("README.md", "docs/operations/kubernetes.md", "docs/guides/kronos-forecasting.md"):
        assert RUN_NOW.strip() in pages()[page]


def test_queries_in_the_docs_are_valid_in_postgres(postgres_url: str) -> None:
    shown = blocks("sql")
    assert len(shown) >= 3
    with get_db_session(postgres_url) as session:
        for block in shown:
            session.execute(text(block.text))


def test_commands_excluded_from_testing_are_in_the_docs() -> None:
    """A pattern that matches no command is obsolete."""
    there = {command for block in BASH for command in commands(block)}
    unused = [pattern for pattern, _ in ELSEWHERE
              if not any(re.fullmatch(pattern, command) for command in there)]  # fmt: skip
    assert unused == []


def test_make_targets_in_the_docs_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {
        target for text in pages().values() for target in re.findall(r"`?make ([a-z-]+)\b", text)
        if f"`make {target}" in text or f"\nmake {target}" in text
    }  # fmt: skip
    assert len(named) > 5
    assert [target for target in named if not re.search(rf"^{target}:", makefile, re.M)] == []
