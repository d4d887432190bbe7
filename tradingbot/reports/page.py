"""A report as one HTML file that asks nobody for anything: text and tables here, charts by plotly.

The charts' numbers and plotly's script, compressed, lie in the page; `static/report.js` draws.
"""

import base64
import gzip
import importlib.util
from html import escape
from pathlib import Path
from string import Template

from tradingbot.errors import ConfigError
from tradingbot.persistence.runs import bad_runs
from tradingbot.reports.charts import chart_data
from tradingbot.reports.figures import Figures, compute_figures
from tradingbot.reports.record import Record, TickerRecord
from tradingbot.reports.tables import (
    numbers_table,
    others_table,
    ranking_table,
    runs_table,
    steps_table,
)
from tradingbot.reports.text import (
    calibration_in_words,
    headline,
    moment,
    record_of,
    ticker_in_words,
    waiting,
)

STATIC = Path(__file__).with_name("static")


def page(record: Record, plotly: bytes) -> str:
    """The whole file; `plotly` is its script, gzipped."""
    judged = compute_figures(record)
    sections = [*_notes(record), _record(record, judged), *_tickers(record, judged), _runs(record)]
    parts = {
        "title": f"Kronos report, {moment(record.status.now)} UTC",
        "headline": _held_together(escape(headline(judged))),
        "summary": _held_together(_summary(record, judged)),
        "sections": _held_together("\n".join(sections)),
        "css": _static("report.css"),
        "script": _static("report.js"),
        "data": chart_data(record, judged),
        "plotly": base64.b64encode(plotly).decode(),
    }
    return Template(_static("report.html")).substitute(parts)


def packed_plotly() -> bytes:
    """plotly's script, gzipped: the image's, else that of the package; ConfigError without both."""
    ours = STATIC / "plotly.min.js.gz"
    if ours.exists():
        return ours.read_bytes()
    found = importlib.util.find_spec("plotly")
    if found is None or found.origin is None:
        raise ConfigError(
            "the charts of a report need the script of plotly: "
            "pip install 'kronos-tradingbots[report]'"
        )
    script = Path(found.origin).parent / "package_data" / "plotly.min.js"
    return gzip.compress(script.read_bytes(), 6, mtime=0)


def _held_together(html: str) -> str:
    """No line ends between a number and its per cent sign."""
    return html.replace(" %", "&nbsp;%")


def _static(name: str) -> str:
    return (STATIC / name).read_text(encoding="utf-8")


# the sections, from the top ---------------------------------------------------------------


def _summary(record: Record, judged: Figures) -> str:
    lines = []
    if judged.overall is None:
        lines.append(waiting(record))
    elif judged.overall.mase is not None:
        overall = judged.overall
        lines.append(
            f"{overall.n} forecasts of {len(judged.tickers)} tickers, "
            f"{overall.first_target:%Y-%m-%d} to {overall.last_target:%Y-%m-%d}: "
            f"{record_of(overall)}."
        )
    else:
        lines.append("Until then the forecasts below stand without a record.")
    revision = f" revision {record.revision[:12]}" if record.revision else ""
    facts = [
        f"{record.model}{revision}, {record.samples} paths a ticker",
        calibration_in_words(record),
        f"candles from {record.status.source}",
        f"written {moment(record.status.now)} UTC",
    ]
    said = "\n".join(f"<p>{escape(line)}</p>" for line in lines)
    return f'{said}\n<p class="facts">{escape("; ".join(facts))}</p>'


def _notes(record: Record) -> list[str]:
    """What is missing, and why."""
    notes = [*_sentences(bad_runs(record.status.runs)), *record.notes]
    if not notes:
        return []
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return [f'<ul class="notes" aria-label="What is missing">{items}</ul>']


def _sentences(problems: list[str]) -> list[str]:
    return [f"{problem[:1].upper()}{problem[1:].removesuffix('.')}." for problem in problems]


def _record(record: Record, judged: Figures) -> str:
    parts = ['<section id="record"><h2>Record</h2>']
    if not judged.charts:
        parts.append(f"<p>{escape(headline(judged))} Nothing is drawn from so little.</p>")
    else:
        parts.append(_RECORD_INTRODUCTION)
        parts.append('<div class="charts">')
        parts += [_figure(*chart) for chart in _RECORD_CHARTS if chart[0] in judged.charts]
        parts.append("</div>")
    if judged.steps:
        parts.append(steps_table(judged))
        parts.append(f'<p class="quiet">{escape(_HOW_TO_READ)}</p>')
    if record.others:
        parts.append(
            "<p>A new model or revision starts a record of its own. Before or beside this one:</p>"
        )
        parts.append(others_table(record.others))
    return "\n".join([*parts, "</section>"])


_RECORD_INTRODUCTION = (
    "<p>Forecasts of the last twelve months against the closes that came. Lines across points and "
    "bars are 95 % intervals, from resampled sessions.</p>"
)
_RECORD_CHARTS = [
    (
        "reliability",
        "Do the bands hold?",
        "On the dotted line a band holds as often as it says; below it the bands are too narrow.",
    ),
    (
        "pit",
        "Where do closes fall?",
        "From the lowest to the highest twentieth of each forecast. Even bars at the dotted line "
        "are right; high ends: bands too narrow; a slope: forecasts too high or too low.",
    ),
    (
        "skill",
        "Better than a random walk?",
        "CRPS, the error of the whole distribution, against a random walk that resamples the "
        "ticker's own returns. Above the dotted line the forecasts are better.",
    ),
]
_HOW_TO_READ = (
    "Error: mean absolute error of the mean close ÷ that of “tomorrow equals today”; below 1 is "
    "better. Held: share of the closes inside the band. Direction: share of moves whose sign was "
    "right; 50 % is a coin."
)


def _figure(
    kind: str, title: str, about: str, *, ticker: int | None = None, label: str = ""
) -> str:
    number = "" if ticker is None else f' data-ticker="{ticker}"'
    heading = "h3" if ticker is None else "h4"
    return (
        f"<figure><{heading}>{escape(title)}</{heading}>"
        f'<div class="chart" data-chart="{kind}"{number} role="img" '
        f'aria-label="{escape(label or title)}"></div>'
        f"<figcaption>{escape(about)}</figcaption></figure>"
    )


def _tickers(record: Record, judged: Figures) -> list[str]:
    several = len(record.tickers) > 1
    known = any(one.crps_skill is not None for one in judged.tickers.values())
    by = "By skill against the random walk" if known else "By name, for want of a record"
    find = (
        '<p class="find"><label for="find">Find a ticker</label>'
        '<input id="find" type="search" autocomplete="off" spellcheck="false">'
        '<span id="found" class="quiet" role="status"></span></p>'
    )
    return [
        '<section id="ranking"><h2>Ranking</h2>',
        f"<p>{by}; a click on a heading sorts by it. Few forecasts rank by luck.</p>",
        ranking_table(record, judged),
        "</section>",
        '<section id="tickers"><h2>Tickers</h2>',
        *([find] if several else []),
        *(_ticker(number, one, judged) for number, one in enumerate(record.tickers)),
        "</section>",
    ]


_HOLLOW = "Hollow candles closed above their open, filled ones below."


def _ticker(number: int, one: TickerRecord, judged: Figures) -> str:
    symbol = escape(one.symbol)
    said = ticker_in_words(one)
    charts = [
        _figure(
            "fan",
            "Newest forecast",
            "" if one.candles.empty else _HOLLOW,
            ticker=number,
            label=f"{one.symbol}: candles and the newest forecast. {said}",
        )
    ]
    if one.past:
        charts.append(
            _figure(
                "past",
                "Earlier forecasts and what came",
                f"The last {len(one.candles)} sessions; a cross marks a close "
                "outside its 80 % band.",
                ticker=number,
                label=f"{one.symbol}: earlier forecasts and the closes that came",
            )
        )
    measures = judged.tickers.get(one.symbol)
    record = "no forecast has met its outcome" if measures is None else record_of(measures)
    n = "" if measures is None or measures.mase is None else f" of {measures.n} forecasts"
    lines = [said, f"Record{n}: {record}."]
    text = "".join(f"<p>{escape(line)}</p>" for line in lines)
    missing = "".join(f'<p class="quiet">{escape(line)}.</p>' for line in one.missing)
    return (
        f'<article class="ticker" id="ticker-{number}" data-symbol="{symbol}"><h3>{symbol}</h3>'
        f'{text}<div class="charts">{"".join(charts)}</div>'
        f"<details><summary>{symbol} in numbers</summary>{numbers_table(one)}{missing}</details>"
        "</article>"
    )


def _runs(record: Record) -> str:
    runs = record.status.runs
    shown = runs_table(runs) if runs else "<p>The job has never run on this database.</p>"
    return f'<section id="runs"><h2>Last runs of the job</h2>\n{shown}\n</section>'
