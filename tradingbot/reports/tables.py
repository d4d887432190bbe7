"""The tables of a report, as HTML."""

from collections.abc import Iterable, Sequence
from html import escape

from tradingbot.evaluation.metrics import MIN_FORECASTS, ForecastMetrics
from tradingbot.formatting import bar_text, duration, price_text
from tradingbot.persistence.models import KronosScore
from tradingbot.persistence.runs import Run
from tradingbot.reports.figures import Estimate, Figures
from tradingbot.reports.record import INTERVAL, ForecastFan, Record, TickerRecord
from tradingbot.reports.text import UNKNOWN, moment, move, per_cent, range_of

_MEASURES = ("Forecasts", "CRPS skill", "Error", "50 % held", "80 % held", "90 % held", "Direction")
_FOR_A_TICKER = ("Forecasts", "CRPS skill", "Error", "80 % held", "Direction")  # what fits


def steps_table(judged: Figures) -> str:
    """The record by how far ahead."""
    rows = [
        [_cell(f"{step}"), *_measure_cells(measures, skill)]
        for step, measures, skill in judged.steps
    ]
    if judged.overall is not None:
        rows.append([_cell("all"), *_measure_cells(judged.overall, judged.skill)])
    return _table(["Sessions ahead", *_MEASURES], rows, "The record by sessions ahead")


def ranking_table(record: Record, judged: Figures) -> str:
    """One row a ticker, the best skill first; those without enough record last, by name."""

    def skill(one: TickerRecord) -> float | None:
        measures = judged.tickers.get(one.symbol)
        return None if measures is None else measures.crps_skill

    def order(numbered: tuple[int, TickerRecord]) -> tuple[bool, float]:
        known = skill(numbered[1])
        return known is None, -(known or 0)

    rows = [
        [
            f'<th scope="row"><a href="#ticker-{number}">{escape(one.symbol)}</a></th>',
            *_forecast_cells(one.fan),
            *_measure_cells(judged.tickers.get(one.symbol), None, _FOR_A_TICKER),
        ]
        for number, one in sorted(enumerate(record.tickers), key=order)
    ]
    head = ["Ticker", "Until", "Median", "80 % band", "Up", *_FOR_A_TICKER]
    return _table(head, rows, "Tickers, ranked", sortable=True)


def numbers_table(one: TickerRecord) -> str:
    """A ticker's newest forecast."""
    fan = one.fan
    rows = [
        [
            _cell(bar_text(day, INTERVAL)),
            *(_cell(price_text(price) if price == price else UNKNOWN) for price in prices),
            _cell(per_cent(up)),
        ]
        for day, prices, up in zip(fan.days, fan.quantiles.T, fan.prob_up, strict=True)
    ]
    head = ["Session", "10 %", "25 %", "Median", "75 %", "90 %", "Up"]
    return _table(head, rows, f"{one.symbol}: the newest forecast")


def others_table(scores: Iterable[KronosScore]) -> str:
    """What `kronosbot score` found of other models and revisions."""
    rows = [
        [
            _cell(f"{one.model_name} {one.model_revision[:12]}".strip()),
            _cell(f"{one.first_target:%Y-%m-%d} to {one.last_target:%Y-%m-%d}"),
            *_measure_cells(one, None),
        ]
        for one in scores
    ]
    return _table(["Model", "Targets", *_MEASURES], rows, "Records of other models")


_COUNTS = ("stored", "already_there", "failed")


def runs_table(runs: Sequence[Run]) -> str:
    rows = [
        [
            _cell(moment(run.started_at)),
            _cell(_how(run), "failed" if run.state in ("failed", "killed") else ""),
            _cell(UNKNOWN if run.seconds is None else duration(run.seconds)),
            *(
                _cell(str(run.counts.get(name, UNKNOWN)))
                for name in ("stored", "already_there", "failed")
            ),
            _cell(run.model or UNKNOWN),
            _cell(run.message or "", "text"),
        ]
        for run in runs
    ]
    head = ["Started (UTC)", "Ended", "Took", "Stored", "There", "Failed", "Model", "Message"]
    return _table(head, rows, "The last runs of the job")


def _how(run: Run) -> str:
    shard = "" if run.shard == "0/1" else f", shard {run.shard}"
    if run.state == "failed":
        return f"failed ({run.exit_code}){shard}"
    return f"{run.state}{shard}"


def _forecast_cells(fan: ForecastFan) -> list[str]:
    p10, p90 = price_text(fan.quantiles[0, -1]), price_text(fan.quantiles[-1, -1])
    return [
        _cell(f"{fan.days[-1]:%Y-%m-%d}"),
        _sorted(move(fan), fan.quantiles[2, -1] / fan.last_close),
        _sorted(f"{p10} to {p90}", (fan.quantiles[-1, -1] - fan.quantiles[0, -1]) / fan.last_close),
        _sorted(per_cent(fan.prob_up[-1]), fan.prob_up[-1]),
    ]


def _measure_cells(
    measures: ForecastMetrics | KronosScore | None,
    skill: Estimate | None,
    names: Sequence[str] = _MEASURES,
) -> list[str]:
    """Dashes for what too few forecasts stand behind."""
    if measures is None:
        return [_sorted("0", 0), *(_sorted(UNKNOWN, None) for _ in names[1:])]
    few = measures.mase is None and measures.n < MIN_FORECASTS
    span = f" ({range_of(skill)})" if skill is not None and skill.low is not None else ""
    low, high = measures.hit_low, measures.hit_high
    hit = "" if low is None or high is None else f" ({100 * low:.0f} to {100 * high:.0f})"
    mase, rate = measures.mase, measures.hit_rate
    shown: dict[str, tuple[str, float | None]] = {
        "Forecasts": (f"{measures.n}, too few" if few else f"{measures.n}", measures.n),
        "CRPS skill": (per_cent(measures.crps_skill, 1) + span, measures.crps_skill),
        "Error": (UNKNOWN if mase is None else f"{mase:.2f}", mase),
        "50 % held": (per_cent(measures.coverage_50), measures.coverage_50),
        "80 % held": (per_cent(measures.coverage_80), measures.coverage_80),
        "90 % held": (per_cent(measures.coverage_90), measures.coverage_90),
        "Direction": (per_cent(rate) + hit, rate),
    }
    return [_sorted(*shown[name]) for name in names]


def _cell(text: str, kind: str = "") -> str:
    return f"<td{f' class={kind}' if kind else ''}>{escape(text)}</td>"


def _sorted(text: str, value: float | None) -> str:
    """A cell of a column that is sorted by `value`; None comes last."""
    return f'<td data-value="{"" if value is None else value}">{escape(text)}</td>'


def _table(
    head: Sequence[str], rows: Iterable[Sequence[str]], label: str, *, sortable: bool = False
) -> str:
    """In a box that scrolls sideways on a narrow screen, also by keyboard."""
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in rows)
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<table{kind}><thead><tr>{names}</tr></thead><tbody>\n{body}\n</tbody></table></div>"
    )
