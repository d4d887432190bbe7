"""Metrics of several models, and of each stage of their postprocessing, for one table."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tradingbot.evaluation.metrics import ForecastMetrics
from tradingbot.persistence.models import KronosScore
from tradingbot.persistence.report_queries import model_scores

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from tradingbot.walk_forward.postprocessing_chain import Chain

# links of a chain that are stages of postprocessing; the other links are simple experts
_LINKS = ("raw", "anchored", "calibrated", "combined")


@dataclass(frozen=True)
class Parts:
    """Metrics of each kind of the model's quantiles, and of other models.

    Attributes:
        own: Metrics by kind of quantiles, from the model's own to the served quantiles. Empty if
            the served quantiles are the model's own.
        others: The metrics of each other model or revision, served quantiles last.
    """

    own: dict[str, ForecastMetrics | KronosScore] = field(default_factory=dict)
    others: list[KronosScore] = field(default_factory=list)


def read_parts(session: "Session", model: str, revision: str, interval: str) -> Parts:
    """Return the metrics in `kronos_scores` over all tickers, steps and sessions."""
    scores = model_scores(session, interval=interval, parts=True)
    is_of_model = [
        (score.model_name, score.model_revision) == (model, revision) for score in scores
    ]
    by_kind = {
        score.forecast: score
        for score, of_model in zip(scores, is_of_model, strict=True)
        if of_model
    }
    return Parts(
        own=dict(by_kind) if len(by_kind) > 1 else {},
        others=[score for score, of_model in zip(scores, is_of_model, strict=True) if not of_model],
    )


def parts_of(chain: "Chain | None") -> Parts:
    """Return a backtest's metrics, or none if it has too few forecasts."""
    if chain is None:
        return Parts()
    links = {name: chain.links[name] for name in _LINKS if name in chain.links}
    return Parts(
        own={
            name: ForecastMetrics(
                n=chain.n,
                sessions=chain.sessions,
                crps_skill=link.crps_skill,
                skill_low=link.skill_low,
                skill_high=link.skill_high,
                ewma_skill=link.ewma_skill,
                coverage_50=link.coverage_50,
                coverage_80=link.coverage_80,
                coverage_90=link.coverage_90,
            )
            for name, link in links.items()
        }
    )
