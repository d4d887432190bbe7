"""`kronosbot calibrate` on the file of a backtest, and a night that uses the result."""

from pathlib import Path
from random import Random

from tests.support.command_line import kronosbot
from tests.support.jobs import rows
from tests.support.market import Market


def test_a_backtest_gives_a_new_model_combined_forecasts_from_the_first_night(
    tmp_path: Path, space_url: str
) -> None:
    market, random = Market(tmp_path / "candles"), Random(0)
    for symbol in ("AAPL", "GOOG", "IBM"):
        closes = [100.0]
        while len(closes) < 300:
            closes.append(closes[-1] * random.lognormvariate(0, 0.01))
        market.write(symbol, closes)
    environ = {"KRONOS_SPACE_URL": space_url, "KRONOS_SAMPLES": "8"}
    backtest = kronosbot(
        "backtest", "--source", market.source, "--horizon", "2", "--context", "64",
        "--samples", "8", "--windows", "40", "--stride", "1", "--out", "record.csv",
        folder=tmp_path, **environ,
    )  # fmt: skip
    assert backtest.returncode == 0, backtest.stderr
    fitted = kronosbot("calibrate", "--backtest", "record.csv", folder=tmp_path, **environ)
    assert fitted.returncode == 0, fitted.stderr
    assert "kronos-nano" in fitted.stdout
    night = kronosbot(
        "run", "--source", market.source, "--symbols", "AAPL", "--horizon", "2",
        folder=tmp_path, **environ,
    )  # fmt: skip
    assert night.returncode == 0, night.stderr
    # the newest session counts from the next night on: another exchange may still be open
    stored = rows(f"sqlite:///{tmp_path / 'kronos.db'}")
    assert [row.calibration for row in stored] == ["combined until 2024-05-14, n=117"] * 2


def test_training_days_of_the_model_are_skipped_with_a_message(
    tmp_path: Path, space_url: str
) -> None:
    environ = {"KRONOS_SPACE_URL": space_url}
    backtest = kronosbot(
        "backtest", "--source", "sample", "--symbols", "AAPL", "--context", "64", "--samples", "2",
        "--windows", "2", "--horizon", "2", "--out", "record.csv", folder=tmp_path, **environ,
    )  # fmt: skip
    assert backtest.returncode == 0, backtest.stderr
    fitted = kronosbot("calibrate", "--backtest", "record.csv", folder=tmp_path, **environ)
    assert fitted.returncode == 2
    assert "record.csv: the model was trained on the days of all its 4 forecasts" in fitted.stderr
