"""The messages of the command for new users and for typing errors."""

import re
import sys
from pathlib import Path

import pytest

from tests.support.command_line import kronosbot
from tradingbot import __version__
from tradingbot.cli import invocation

COMMANDS = [
    "", "run", "backtest", "calibrate", "check", "portfolio", "portfolio close", "portfolio set",
    "report", "score", "status", "space", "space status", "space wake",
    "space pause", "export", "export forecasts", "export scores", "export backtest",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_fits_a_terminal_and_ends_in_an_example_that_is_a_command(
    command: str, tmp_path: Path
) -> None:
    done = kronosbot(*command.split(), "--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\b" not in done.stdout
    if command in ("", "space", "export", "portfolio"):
        assert "..." not in done.stdout  # no sentence is truncated
    if command in ("space", "export", "portfolio"):
        return  # a group: its commands have the examples
    examples = re.findall(r"(?:Try it: |^ +)kronosbot (.*)", done.stdout, re.MULTILINE)
    assert examples
    for example in examples:
        words = example.partition(" --")[0].partition(" |")[0]
        assert any(f"{words} ".startswith(f"{item} ") for item in COMMANDS if item), example


def test_the_help_of_run_names_every_option_and_exit_code(tmp_path: Path) -> None:
    done = kronosbot("run", "-h", folder=tmp_path)
    for word in ("--local", "--source", "--symbols", "--horizon", "--database-url", "--dry-run",
                 "--samples", "--model", "--temperature", "--top-p",
                 "--force", "--log-format", "--json", "130", "143", "HF_TOKEN"):  # fmt: skip
        assert word in done.stdout


@pytest.mark.parametrize(
    "command", ["run", "status", "report", "score", "calibrate", "export forecasts"]
)
def test_the_help_says_that_others_can_read_a_password_on_the_command_line(
    command: str, tmp_path: Path
) -> None:
    output = " ".join(kronosbot(*command.split(), "--help", folder=tmp_path).stdout.split())
    about = output[output.index("--database-url") :]
    assert "Other users of this machine can see it in `ps`" in about
    assert "set DATABASE_URL instead" in about


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["stauts"], "No such command 'stauts'. Did you mean 'status'"),
        (["space", "wakee"], "No such command 'wakee'. Did you mean 'wake'"),
        (["run", "--locl"], "No such option: --locl (Possible options: --force, --local, --model)"),
        (["--horizn", "3"], "No such option: --horizn"),
        (["run", "SPY"], "Got unexpected extra argument(s) (SPY)"),
        (["run", "--symbols"], "Option '--symbols' requires an argument."),
    ],
)
def test_a_typing_error_is_reported_with_a_hint(
    arguments: list[str], hint: str, tmp_path: Path
) -> None:
    done = kronosbot(*arguments, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert hint in done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.endswith("--help' for help.\n")
    assert done.stderr.count("\n") == 1
    assert not re.search(r"[.?]\.", done.stderr)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("kronosbot sta", ["status"]),
        ("kronosbot run --so", ["--source"]),
        ("kronosbot export forecasts --format ", ["csv", "json", "parquet"]),
        ("kronosbot ", ["run", "status"]),
    ],
)
def test_a_shell_completes_a_line(line: str, words: list[str], tmp_path: Path) -> None:
    asked = {"_KRONOSBOT_COMPLETE": "complete_bash", "COMP_WORDS": line}
    done = kronosbot(folder=tmp_path, **asked, COMP_CWORD=str(line.count(" ")))
    assert done.stdout.splitlines()[: len(words)] == words


def test_the_version_is_reported(tmp_path: Path) -> None:
    assert kronosbot("--version", folder=tmp_path).stdout == f"kronosbot {__version__}\n"


def test_kronosbot_without_a_command_runs_the_job_as_a_cronjob_does(tmp_path: Path) -> None:
    done = kronosbot(folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "Error: KRONOS_SPACE_URL is not set: give the Space's address "
        "(https://owner-space.hf.space), or add --local to run one on this machine\n"
    )


def test_the_printed_serve_command_works_in_the_printed_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nowhere")
    python, _, rest = invocation.serve().partition(" ")
    assert Path(python).samefile(sys.executable)
    assert rest == "-m kronos_space"
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert invocation.serve() == f"{Path(sys.executable).name} -m kronos_space"
