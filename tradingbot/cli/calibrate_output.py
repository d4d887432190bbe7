"""The output of `kronosbot calibrate`: two tables per model, or one JSON document."""

from typing import Any

from rich.console import Console
from rich.table import Table

from tradingbot.cli.output import plain_table, print_line, print_table
from tradingbot.forecast import short_revision
from tradingbot.postprocessing.bands import ALL_CLASSES, ALL_STEPS
from tradingbot.postprocessing.combination import State
from tradingbot.postprocessing.combined_forecast import Combination, forecasters_of, suffices
from tradingbot.postprocessing.conformal import MIN_FORECASTS, MIN_SESSIONS
from tradingbot.postprocessing.experts import FORECASTERS
from tradingbot.postprocessing.fit import Fit, Outcome
from tradingbot.postprocessing.recalibration import Recalibration


def calibration_document(found: Recalibration) -> dict[str, Any]:
    """Return the JSON document of a calibration.

    `raw` and `calibrated` are coverages: shares of closes inside a band. The table
    kronos_calibrations stores the factors that widen or narrow the bands. `combinations` are the
    pools of the table kronos_combinations. A pool is a group of forecasts with common weights, such
    as "equity, step 1". `served` is true if the pool has enough outcomes to be used.
    """
    return {
        "models": [
            {
                **dict(zip(("model", "revision", "interval"), fit.calibration.key, strict=True)),
                "bands": [
                    {
                        "asset_class": outcome.asset_class,
                        "step": outcome.step,
                        "n": outcome.n,
                        "raw": outcome.raw_coverage,
                        "factor": outcome.factor,
                        "learnt_from": _pool(outcome),
                        "n_since": outcome.n_since,
                        "calibrated": outcome.coverage,
                    }
                    for outcome in fit.outcomes
                ],
            }
            for fit in found.fits
        ],
        "combinations": [
            {
                **dict(zip(("model", "revision", "interval"), combination.key, strict=True)),
                "pools": [
                    {
                        "asset_class": kind,
                        "step": step,
                        "sessions": state.sessions,
                        "n": state.forecasts,
                        "until": str(state.until)[:10],
                        "shares": _shares(state),
                        "median_kept": state.kept,
                        "served": suffices(state),
                    }
                    for (kind, step), state in sorted(combination.pools.items())
                ],
            }
            for combination in found.combinations
        ],
        "left_out": dict(found.left_out),
        "rows": found.rows,
        "weights": found.weights,
        "database": found.stored_in,
    }


def show_calibration(found: Recalibration, console: Console) -> None:
    """Print tables per model, then what was left out or stored, or why nothing was learnt."""
    for fit in found.fits:
        name, revision, interval = fit.calibration.key
        print_line(
            console,
            f"{name}, revision {short_revision(revision) or 'unknown'}, {interval}: the 80 % band",
        )
        print_table(console, _table(fit))
        print_line(console)
    for combination in found.combinations:
        if combination.pools:
            name, revision, interval = combination.key
            title = f"{name}, revision {short_revision(revision)}, {interval}: the shares"
            print_line(console, title)
            print_table(console, _share_table(combination))
            print_line(console)
    for reason, n in found.left_out.most_common():
        print_line(console, f"Left out {n}: {reason}")
    for line in _verdict(found):
        print_line(console, line)


def _table(fit: Fit) -> Table:
    table = plain_table(
        *("Class", "Step", "n", "Raw held", "Factor", "Learnt from", "n since", "Held since"),
        left=("Class", "Learnt from"),
    )
    for outcome in fit.outcomes:
        table.add_row(
            outcome.asset_class,
            str(outcome.step),
            str(outcome.n),
            f"{outcome.raw_coverage:.1%}",
            "raw" if outcome.factor is None else f"{outcome.factor:.2f}",
            _pool(outcome) or "",
            str(outcome.n_since or ""),
            "" if outcome.coverage is None else f"{outcome.coverage:.1%}",
        )
    return table


def _share_table(combination: Combination) -> Table:
    names = list(
        dict.fromkeys(name for state in combination.pools.values() for name in _shares(state))
    )
    head = [name.capitalize() if name in FORECASTERS else name for name in names]
    table = plain_table("Class", "Step", "Sessions", "n", *head, "Served", left=("Class", "Served"))
    for (kind, step), state in sorted(combination.pools.items()):
        table.add_row(
            "all" if kind == ALL_CLASSES else kind,
            str(step),
            str(state.sessions),
            str(state.forecasts),
            *(f"{_shares(state).get(name, 0.0):.0%}" for name in names),
            "yes" if suffices(state) else "not yet",
        )
    return table


def _shares(state: State) -> dict[str, float]:
    return dict(zip(forecasters_of(state), state.weights.tolist(), strict=True))


def _pool(outcome: Outcome) -> str | None:
    """Return the pool in words, such as "equity, step 1"."""
    if outcome.pool is None:
        return None
    kind, step = outcome.pool
    of_class = "all classes" if kind == ALL_CLASSES else kind
    return f"{of_class}, {'all steps' if step == ALL_STEPS else f'step {step}'}"


def _verdict(found: Recalibration) -> list[str]:
    needs = f"{MIN_FORECASTS} forecasts on {MIN_SESSIONS} sessions"
    lines = []
    if found.out_of_reach:
        lines.append("Learnt nothing: no forecast has a realised close yet")
    elif not found.fits:
        lines.append(
            f"Too little: no forecast has an outcome yet; bands stay raw until {needs} have one"
        )
    for fit in found.fits:
        if not fit.calibration.pools:
            n = sum(outcome.n for outcome in fit.outcomes)
            earlier = fit.calibration.key in found.earlier
            until = "the previous factors stay" if earlier else "its bands stay raw"
            lines.append(
                f"Too little: {fit.calibration.key[0]} has {n} forecasts with an outcome; "
                f"{until} until {needs} have one"
            )
    if found.stored_in is None:
        return [*lines, "Stored nothing: a dry run"]
    if found.rows:
        lines.append(f"Stored {found.rows} factors: kronos_calibrations in {found.stored_in}")
    if found.weights:
        lines.append(
            f"Stored the shares of {found.weights} pools: kronos_combinations in {found.stored_in}"
        )
    return lines
