"""`kronosbot calibrate` on the file of a backtest, and a night that uses what it found."""

from pathlib import Path

from tests.support.command_line import kronosbot
from tests.support.jobs import rows


def test_a_backtest_gives_a_new_model_calibrated_bands_from_the_first_night(
    tmp_path: Path, space_url: str
) -> None:
    environ = {"KRONOS_SPACE_URL": space_url, "KRONOS_SAMPLES": "8"}
    told = ("--symbols", "AAPL,IBM", "--horizon", "2", "--until", "2013-02-20")
    backtest = kronosbot(
        "backtest", "--source", "sample", *told, "--context", "64", "--samples", "8",
        "--windows", "40", "--stride", "1", "--out", "record.csv", folder=tmp_path, **environ,
    )  # fmt: skip
    assert backtest.returncode == 0, backtest.stderr
    fitted = kronosbot("calibrate", "--backtest", "record.csv", folder=tmp_path, **environ)
    assert fitted.returncode == 0, fitted.stderr
    assert "kronos-nano" in fitted.stdout
    night = kronosbot(
        "run", "--source", "sample", "--symbols", "AAPL", "--horizon", "2",
        folder=tmp_path, **environ,
    )  # fmt: skip
    assert night.returncode == 0, night.stderr
    # a step has 80 forecasts, too few for a factor of its own: the steps share one
    stored = rows(f"sqlite:///{tmp_path / 'kronos.db'}")
    assert [row.calibration for row in stored] == ["conformal until 2013-02-20, n=160"] * 2
