"""`kronosbot score` as a process: exit code and output."""

import json
from pathlib import Path

from tests.support.command_line import kronosbot


def test_forecasts_of_one_run_on_the_sample_are_scored_but_too_few(
    tmp_path: Path, space_url: str
) -> None:
    settings = {"KRONOS_SPACE_URL": space_url}
    run = kronosbot("--source", "sample", folder=tmp_path, **settings)
    assert run.returncode == 0, run.stderr
    assert "Scoring: 4" in run.stderr.splitlines()

    done = kronosbot("score", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "Scoring: 4\n")
    [first, second] = done.stdout.split("\n\n")[0].splitlines()
    assert first.startswith("kronos-nano (sha256:")
    assert first.endswith("), 1d: 20 forecasts with an outcome")
    assert second == "Too few to say anything: 20 of 30"

    document = json.loads(kronosbot("score", "--json", folder=tmp_path).stdout)
    assert (document["exit_code"], document["error"]) == (0, None)
    assert (document["scored"], document["waiting"], document["unscored"]) == (20, 0, [])
    [every] = [
        row
        for row in document["scores"]
        if (row["symbol"], row["step"], row["last_sessions"]) == ("*", 0, 0)
    ]
    assert (every["n"], every["relative_mae"], every["last_target"]) == (
        20,
        None,
        "2013-02-28T00:00:00",
    )

    ibm = json.loads(kronosbot("score", "--json", "--symbols", "IBM", folder=tmp_path).stdout)
    assert ibm["scored"] == 5

    wrong = kronosbot("score", "--source", "yahooo", folder=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("Error: --source='yahooo'") or "yahooo" in wrong.stderr


def test_without_forecasts_score_says_in_one_line_what_to_do(tmp_path: Path) -> None:
    done = kronosbot("score", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: there is no sqlite:///kronos.db yet, and no forecasts: ")
    assert not list(tmp_path.iterdir())
    output = json.loads(kronosbot("score", "--json", folder=tmp_path).stdout)
    assert (output["exit_code"], output["error"]["kind"]) == (1, "DatabaseError")
