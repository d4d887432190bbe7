"""The tools' documents as text for a language model. Forecasts are in `forecast_text`."""

from tradingbot.ai.mcp.documents import EventsDocument, StatusDocument, Tickers, TrackRecord
from tradingbot.formatting import bar_text, model_text, price_text, quoted
from tradingbot.persistence.models import ALL_SYMBOLS

MAX_LINES = 30  # lines of a list; the document has all


def record_text(record: TrackRecord) -> str:
    lines = [
        f"Track record of {model_text(record.model)}, daily forecasts as served: {record.summary}."
    ]
    for score in record.scores:
        tickers = "All tickers" if score.symbol == ALL_SYMBOLS else score.symbol
        window = f"last {score.last_sessions} sessions" if score.last_sessions else "all sessions"
        figures = [f"{score.n} forecasts with an outcome"]
        if score.crps_skill is not None:
            figures.append(f"skill over a random walk {score.crps_skill:+.1%}")
        if score.skill_low is not None and score.skill_high is not None:
            figures.append(f"95 % interval {score.skill_low:+.1%} to {score.skill_high:+.1%}")
        if score.coverage_80 is not None:
            figures.append(f"80 % band held {score.coverage_80:.0%}")
        if score.hit_rate is not None:
            figures.append(f"direction right {score.hit_rate:.0%}")
        lines.append(f"{tickers}, {window}: {', '.join(figures)}.")
    lines.append("A skill above 0 beats a random walk; if its interval contains 0, this is unsure.")
    return "\n".join(lines)


def events_text(document: EventsDocument) -> str:
    """Return the probability of each event by the last day."""
    place = "the database" if document.source == "stored" else "the Space"
    last = bar_text(document.days[-1], "1d")
    lines = [
        f"Simulated paths of {document.symbol}, {len(document.days)} trading days ahead of "
        f"{bar_text(document.as_of, '1d')}, which closed at {price_text(document.last_close)}.",
        f"Model: {model_text(document.model)}; from {place}.",
        *(f"Note: {warning}" for warning in document.warnings),
        "",
        f"Event: its chance by the end of {last}, and the 95 % interval of that",
    ]
    for event in document.events:
        line = (
            f"{event.event}: {event.probability[-1]:.0%}, {event.low[-1]:.0%} to "
            f"{event.high[-1]:.0%}"
        )
        line += "" if event.mean is None else f"; mean {event.mean[-1]:.1f} %"
        lines.append(line + ("" if event.record is None else f". Its record: {event.record}."))
    lines += [
        "",
        "The interval covers only the Monte Carlo error; the model may be wrong, too. It knows "
        f"the past daily candles of {document.symbol} and nothing else. It is no advice.",
    ]
    return "\n".join(lines)


def tickers_text(document: Tickers) -> str:
    lines = []
    for ticker in document.tickers[:MAX_LINES]:
        as_of = "no forecast" if ticker.as_of is None else f"as of {bar_text(ticker.as_of, '1d')}"
        lines.append(f"{ticker.symbol}: {as_of}{'' if ticker.active else ', no longer forecast'}")
    left = len(document.tickers) - len(lines)
    return "\n".join([*lines, *([f"and {left} more"] if left else [])]) or "There are no tickers."


def status_text(status: StatusDocument) -> str:
    fresh = status.active - len(status.stale)
    lines = [f"Problem: {problem}." for problem in status.problems] or ["All is well."]
    lines += [f"Note: {note}." for note in status.notes]
    if status.clock is not None:
        lines.append(f"{fresh} of {status.active} active tickers have the newest forecast.")
        lines.append(
            f"Candles come from {status.source}, whose time is {status.clock:%Y-%m-%d %H:%M} UTC."
        )
    lines += [f"Stale: {ticker.symbol}, {ticker.why}." for ticker in status.stale[:MAX_LINES]]
    for run in status.runs[:3]:
        how = run.state if run.message is None else f"{run.state}: {quoted(run.message, 200)}"
        lines.append(f"Run of {run.started_at:%Y-%m-%d %H:%M} UTC: {how}.")
    lines += [
        f"{model_text(model.name)}: {model.record}." for model in status.models if model.record
    ]
    space = status.space
    lines.append(
        f"The Space is up, with {model_text(space.model or '')}."
        if space.up
        else f"No Space: {space.message}."
    )
    return "\n".join(lines)
