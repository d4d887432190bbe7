"""`python -m kronos_space.verification.verify`: results, and messages when it cannot compare.

A recorded forecast replaces the reference; a fake interpreter returns it as the worker would.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kronos_space.engine.engine import Engine
from kronos_space.forecasting.candles import COLUMNS
from kronos_space.verification import verify
from kronos_space.verification.cases import Case
from kronos_space.verification.verify import Answer, compare, main
from kronos_space.weights.checkpoint import load_checkpoint
from tests.support import DATA

RECORDED = json.loads((DATA / "parity" / "nano-msft-200-h5.json").read_text())
CASE = Case("MSFT", RECORDED["history"], RECORDED["target_timestamps"])
REFERENCE = Answer(
    RECORDED["s1_tokens"],
    RECORDED["s2_tokens"],
    np.array([RECORDED["expected"][column] for column in COLUMNS]).T,
)


@pytest.fixture(scope="module")
def ours() -> Answer:
    return verify.greedy(Engine(load_checkpoint("kronos-nano")), CASE)


def an_environment(folder: Path, answer: dict[str, Any] | str) -> Path:
    """Create a fake environment of the reference whose interpreter always gives the same answer."""
    (folder / "bin").mkdir()
    (folder / "answer").write_text(answer if isinstance(answer, str) else json.dumps(answer))
    python = folder / "bin" / "python"
    python.write_text(
        "#!/bin/sh\n"
        'if [ "$2" = -c ]; then echo 0.1.0; exit; fi\n'
        f"cat > {folder}/question\n"
        f"if grep -q Error {folder}/answer; then cat {folder}/answer >&2; exit 1; fi\n"
        f"cat {folder}/answer\n"
    )
    python.chmod(0o755)
    return folder


def recorded_answer(**changes: Any) -> dict[str, Any]:
    call = {"s1": [REFERENCE.s1], "s2": [REFERENCE.s2], "values": [REFERENCE.values.tolist()]}
    return {"calls": [call | {"margin": 0.01} | changes]}


def test_the_engine_equals_a_recorded_forecast_of_the_reference(ours: Answer) -> None:
    comparison = compare(CASE, ours, REFERENCE, margin=0.1)

    assert comparison.equal
    assert comparison.equal_tokens == 10
    assert 0 < comparison.error < 1e-5


def test_a_single_different_token_is_a_difference(ours: Answer) -> None:
    other = replace(ours, s2=[*ours.s2[:-1], ours.s2[-1] ^ 1])

    comparison = compare(CASE, other, REFERENCE, margin=0.1)

    assert comparison.equal_tokens == 9
    assert not comparison.equal


@pytest.mark.parametrize(("share", "equal"), [(0.5, True), (2.0, False)])
@pytest.mark.parametrize("column", range(6), ids=COLUMNS)
def test_values_within_the_relative_tolerance_are_equal(
    column: int, share: float, equal: bool
) -> None:
    history, _ = CASE.parsed()
    off = REFERENCE.values.copy()
    allowed = 1e-5 * (abs(off[3, column]) + history.values[:, column].std())
    off[3, column] += share * allowed

    comparison = compare(CASE, replace(REFERENCE, values=off), REFERENCE, margin=0.1)

    assert comparison.equal is equal
    assert comparison.error == pytest.approx(share * 1e-5, rel=1e-3)


def test_equal_answers_end_with_status_0_and_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify, "cases", lambda max_context: [CASE])
    environment = an_environment(tmp_path, recorded_answer())

    status = main(["--environment", str(environment)])

    printed, errors = capsys.readouterr()
    assert (status, errors) == (0, "")
    assert "kronos-nano against kronos-model-arch 0.1.0" in printed
    assert "10 of 10" in printed
    assert "DIFFERS" not in printed
    assert printed.endswith("all 1 equal: every token, and values within 1e-05\n")


def test_the_reference_computes_the_greedy_path_of_the_same_history_and_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "cases", lambda max_context: [CASE])
    environment = an_environment(tmp_path, recorded_answer())

    main(["--environment", str(environment)])

    question = json.loads((environment / "question").read_text())
    assert question["calls"] == [
        {"series": [CASE.as_json()], "samples": 1, "top_k": 1, "top_p": 1.0}
    ]
    assert question["max_context"] == 256
    for part in ("model", "tokenizer"):
        assert Path(question[part]).parts[-2:] == ("kronos-nano", part)


def test_different_answers_end_with_status_1_and_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verify, "cases", lambda max_context: [CASE])
    environment = an_environment(tmp_path, recorded_answer(s1=[[0, 0, 0, 0, 0]]))

    status = main(["--environment", str(environment)])

    printed = capsys.readouterr().out
    assert status == 1
    assert "5 of 10" in printed
    assert "DIFFERS" in printed
    assert printed.endswith("1 of 1 differ\n")


def test_a_failed_environment_is_a_one_line_error_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file, not a folder")

    status = main(["--environment", str(taken)])

    printed, errors = capsys.readouterr()
    assert (status, printed) == (2, "")
    assert errors.startswith(f"verify: {taken}: an environment with kronos-model-arch==0.1.0 can")
    assert errors.count("\n") == 1


def test_without_a_package_index_the_error_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    status = main(["--environment", str(tmp_path / "reference")])

    errors = capsys.readouterr().err
    assert status == 2
    assert "No matching distribution found for kronos-model-arch==0.1.0" in errors
    assert "it takes a package index that can be reached" in errors
    assert errors.count("\n") == 1


def test_a_reference_that_fails_is_a_one_line_error_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = an_environment(tmp_path, "Traceback:\n  …\nRuntimeError: no such tensor\n")

    status = main(["--environment", str(environment)])

    errors = capsys.readouterr().err
    assert status == 2
    assert errors == "verify: reference_worker.py: RuntimeError: no such tensor\n"


def test_an_unknown_checkpoint_is_a_one_line_error_with_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = an_environment(tmp_path, recorded_answer())

    status = main(["--environment", str(environment), "--checkpoint", "kronos-giga"])

    errors = capsys.readouterr().err
    assert status == 2
    assert "kronos-giga" in errors
    assert errors.count("\n") == 1
