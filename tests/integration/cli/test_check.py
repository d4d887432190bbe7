"""`kronosbot check` prints the assessment of candles and makes no forecast."""

import json
from pathlib import Path

from tests.support.command_line import kronosbot
from tests.unit.markets.test_data_quality import candles, scaled


def test_a_break_of_scale_is_shown_and_ends_with_1_until_it_is_allowed(tmp_path: Path) -> None:
    folder = tmp_path / "candles"
    folder.mkdir()
    candles().rename_axis("Date").to_csv(folder / "SPY.csv")
    pence = scaled(candles("BARC.L"), slice(200, 300), 0.01)
    pence.rename_axis("Date").to_csv(folder / "BARC.L.csv")
    done = kronosbot("check", f"csv:{folder}", "--json", folder=tmp_path)
    assert done.returncode == 1
    barclays, spy = json.loads(done.stdout)["tickers"]
    assert (spy["verdict"], spy["findings"]) == ("ok", [])
    assert barclays["verdict"] == "refused"
    [finding] = barclays["findings"]
    assert (finding["kind"], finding["action"]) == ("scale", "refused")
    allowed = kronosbot("check", f"csv:{folder}", "--allow-jumps", folder=tmp_path)
    assert (allowed.returncode, allowed.stderr) == (0, "")
    assert "BARC.L  ok" in allowed.stdout
    assert not (tmp_path / "kronos.db").exists()


def test_fewer_bars_than_a_forecast_needs_are_refused_as_by_the_job(tmp_path: Path) -> None:
    folder = tmp_path / "candles"
    folder.mkdir()
    candles(count=31).rename_axis("Date").to_csv(folder / "NEW.csv")
    candles(count=32).rename_axis("Date").to_csv(folder / "SPY.csv")
    done = kronosbot("check", f"csv:{folder}", "--json", folder=tmp_path)
    assert done.returncode == 1
    new, spy = json.loads(done.stdout)["tickers"]
    assert (new["verdict"], new["bars"], spy["verdict"]) == ("refused", 31, "ok")
    assert new["error"].startswith("31 usable 1d bars up to 2024-")
    assert new["error"].endswith("a forecast needs at least 32")
