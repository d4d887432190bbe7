"""Render a report as one self-contained HTML file.

`templates/report.html.j2` has the text and tables. The file also contains the charts' data and the
compressed script of plotly; `static/report.js` draws the charts.
"""

import base64
import gzip
import importlib.util
from datetime import datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tradingbot.errors import ConfigError
from tradingbot.evaluation.significance import MIN_SESSIONS_TO_RESAMPLE
from tradingbot.formatting import duration
from tradingbot.install_command import install_command
from tradingbot.postprocessing.conformal import MIN_FORECASTS, MIN_SESSIONS
from tradingbot.reports import tables, text
from tradingbot.reports.charts import chart_data
from tradingbot.reports.combination_shares import NAMES
from tradingbot.reports.figures import compute_figures
from tradingbot.reports.record import Record

STATIC = Path(__file__).with_name("static")
TEMPLATES = Path(__file__).with_name("templates")


def render_page(record: Record, plotly: bytes) -> str:
    """Return the file's content. `plotly` is the gzipped script of plotly."""
    figures = compute_figures(record)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            record=record,
            figures=figures,
            headline=text.headline(figures),
            summary=text.summary(record, figures),
            facts=text.facts(record),
            notes=text.notes(record),
            coming=text.coming(record, figures),
            shares_in_words=text.shares_in_words(record),
            parts_in_words=text.parts_in_words(record),
            step_rows=tables.step_rows(figures),
            ranking_rows=tables.ranking_rows(record, figures),
            tickers_compared=text.tickers_compared(figures),
            ranked_by_skill=tables.has_skill(figures),
            chart_data=chart_data(record, figures),
            plotly=base64.b64encode(plotly).decode(),
            css=_static("report.css"),
            script=_static("report.js"),
        )
    )


def packed_plotly() -> bytes:
    """Return plotly's script, gzipped: the copy in the image, or else the package's script.

    Raises:
        ConfigError: Neither is installed.
    """
    ours = STATIC / "plotly.min.js.gz"
    if ours.exists():
        return ours.read_bytes()
    found = importlib.util.find_spec("plotly")
    if found is None or found.origin is None:
        raise ConfigError(
            f"the charts of a report need the script of plotly: {install_command('report')}"
        )
    script = Path(found.origin).parent / "package_data" / "plotly.min.js"
    return gzip.compress(script.read_bytes(), 6, mtime=0)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {
        "separators": (",", ":"),
        "allow_nan": False,
        "ensure_ascii": False,
    }
    environment.globals |= {
        "BIN_COLUMNS": tables.BIN_COLUMNS,
        "EVENT_COLUMNS": tables.EVENT_COLUMNS,
        "METRICS": tables.METRICS,
        "QUANTILE_METRICS": tables.QUANTILE_METRICS,
        "MIN_FORECASTS_TO_COMBINE": MIN_FORECASTS,
        "MIN_SESSIONS_TO_COMBINE": MIN_SESSIONS,
        "MIN_SESSIONS_TO_RESAMPLE": MIN_SESSIONS_TO_RESAMPLE,
        "SHARE_NAMES": NAMES,
        "TICKER_METRICS": tables.TICKER_METRICS,
        "UNKNOWN": text.UNKNOWN,
    }
    environment.filters |= {
        "all_events": tables.all_events,
        "chance_rows": tables.chance_rows,
        "day": _day,
        "describe_forecast": text.describe_forecast,
        "duration": duration,
        "event_rows": tables.event_rows,
        "forecast_rows": tables.forecast_rows,
        "metric_values": tables.metric_values,
        "minute": text.minute,
        "percent": text.percent,
        "model_name": tables.model_name,
        "part_values": tables.part_values,
        "range_text": text.range_text,
        "run_outcome": tables.run_outcome,
        "ticker_record": text.ticker_record,
        "unbroken_percent": _unbroken_percent,
    }
    return environment


def _static(name: str) -> Markup:
    """Return the text of a static file."""
    return Markup((STATIC / name).read_text(encoding="utf-8"))


def _day(when: datetime) -> str:
    return f"{when:%Y-%m-%d}"


def _unbroken_percent(html: Markup) -> Markup:
    """Keep a number and its per cent sign on one line."""
    return html.replace(" %", "\N{NO-BREAK SPACE}%")
