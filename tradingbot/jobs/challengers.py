"""Challengers: additional models that forecast the same tickers as the champion, for comparison.

The champion is the model whose forecasts are served. A challenger with a share in the served
forecast is asked together with the champion. All other challengers are asked after the champion's
forecasts are stored. A challenger's failure is reported. The failure does not affect the champion,
except for a limited delay.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Self

import pandas as pd

from tradingbot.errors import HubError, KronosError, RunOvertaken, SpaceUnavailable
from tradingbot.forecast import Forecast
from tradingbot.formatting import one_line
from tradingbot.jobs.database import JobDatabase
from tradingbot.jobs.options import JobOptions
from tradingbot.jobs.postprocessing import NightlyPostprocessing
from tradingbot.jobs.sharding import Shard
from tradingbot.jobs.steps import INTERVAL, Forecaster, Histories, requests_for
from tradingbot.jobs.summary import ChallengerOutcome, PhaseTimer
from tradingbot.markets.fingerprint import bars_hash
from tradingbot.persistence.forecasts import already_stored, store_forecasts
from tradingbot.persistence.transactions import retried
from tradingbot.runtime.concurrency import within
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import signals_held
from tradingbot.settings import Settings
from tradingbot.settings.models import AskedModel
from tradingbot.space.client import BATCH_SERIES
from tradingbot.space.connect import open_space, settings_of_model
from tradingbot.space.orphaned_space import WakeLog
from tradingbot.space.served_models import find_model
from tradingbot.typing import SessionFactory

logger = logging.getLogger(__name__)

# opens and wakes a Space, and records the wake in the log
OpenOther = Callable[[AskedModel, WakeLog | None], AbstractContextManager[Forecaster]]
Made = dict[str, Forecast]  # by ticker


@dataclass(frozen=True)
class Night:
    """The parts of the champion's run that a challenger needs."""

    settings: Settings
    options: JobOptions
    sessions: SessionFactory
    histories: Histories
    # a ticker's candles, including older ones than its history
    fetched: Callable[[str], pd.DataFrame]
    reporter: ProgressReporter
    timer: PhaseTimer
    wake_log: WakeLog | None = None


class Challengers:
    """All challengers of a night. `space` is the champion's; `open_other` opens another Space."""

    def __init__(
        self,
        asked: Sequence[AskedModel],
        space: Forecaster,
        open_other: OpenOther | None,
        night: Night,
    ) -> None:
        self._stack = ExitStack()
        self._all = [
            _Challenger(model, partial(self._space, model, space, open_other, night), night)
            for model in asked
        ]

    @classmethod
    def none(cls) -> Self:
        """Return a night without challengers."""
        nothing: Any = None
        return cls((), nothing, None, nothing)

    def close(self) -> None:
        """Leave the Spaces that were opened for challengers.

        A failed pause was logged as an error. The failure raises nothing, because an exception
        would end the night before scoring, or replace a signal. The job checks again at its end.
        """
        with suppress(HubError):
            self._stack.close()

    def to_combine(
        self, names: Collection[str], symbols: Sequence[str]
    ) -> Mapping[str, Mapping[str, Forecast]]:
        """Return forecasts of the challengers with these names: by name, then by ticker."""
        forecasts = {}
        for name in names:
            for challenger in self._all:
                if challenger.asked.is_called(name):
                    forecasts[name] = challenger.to_combine(symbols)
        return forecasts

    def forecast_others(self, *, elsewhere: bool) -> None:
        """Make and store the forecasts that challengers have not made yet.

        `elsewhere` selects the challengers on other Spaces, or those on the champion's Space.
        """
        for challenger in self._all:
            if challenger.asked.is_elsewhere == elsewhere:
                with challenger.night.timer.phase("challenge"):
                    challenger.forecast_others()

    def outcomes(self) -> tuple[ChallengerOutcome, ...]:
        return tuple(challenger.outcome for challenger in self._all)

    def _space(
        self, model: AskedModel, space: Forecaster, open_other: OpenOther | None, night: Night
    ) -> Forecaster:
        if open_other is None or not model.is_elsewhere:
            return space
        return self._stack.enter_context(open_other(model, night.wake_log))


class _Challenger:
    """One challenger. After a failure it is not asked again."""

    def __init__(self, asked: AskedModel, space: Callable[[], Forecaster], night: Night) -> None:
        self.asked = asked
        self.outcome = ChallengerOutcome(asked.name, tickers=len(night.histories))
        self._open = space
        self.night = night
        self._space: Forecaster | None = None
        self._model = asked.name  # the Space's name for it, once known
        self._left = night.settings.timeouts.challenger  # seconds that the challenger may still use
        self._made: Made = {}  # made together with the champion's forecasts, not stored yet
        self._postprocessing = NightlyPostprocessing(
            night.histories,
            night.sessions,
            night.reporter,
            night.settings.timeouts,
            fetched=night.fetched,
            challenger=True,
        )

    def to_combine(self, symbols: Sequence[str]) -> Made:
        self.outcome = replace(self.outcome, beside=True)
        made = self._ask(symbols)
        self._made |= made
        return made

    def forecast_others(self) -> None:
        self.night.reporter.step(
            "challenge", f"Asking {self.asked.name} as well", total=len(self.night.histories)
        )
        try:
            self._store(self._made)
            if self.outcome.failure is None and self.night.histories:
                self._connect()
                for symbols in _batches(self._missing()):
                    self._store(self._ask(symbols))
                    if self.outcome.failure is not None:
                        break
        except RunOvertaken:
            raise
        except KronosError as error:
            self._fail(error)
        except Exception as error:  # even a bug here must not affect the champion
            logger.exception("%s is left out", self.asked.name)
            self._fail(error)
        if self.outcome.failure:
            self.night.reporter.warn(f"{self.outcome}")

    def _connect(self) -> Forecaster:
        """Return the challenger's Space, and check that it has the model.

        Raises:
            ConfigError, SpaceError, HubError: The Space lacks the model, or is out of reach.
        """
        if self._space is None:
            space = self._open()
            url = getattr(space, "url", "")
            health = space.health()
            self._model = find_model(health, self.asked, setting="KRONOS_MODELS", url=url)
            self._space = space
        return self._space

    def _ask(self, symbols: Sequence[str]) -> Made:
        """Return forecasts of these tickers, or none after a failure. Raises nothing."""
        if self.outcome.failure is not None:
            return {}
        began = time.monotonic()
        try:
            space = self._connect()
            began = time.monotonic()  # the time to wake a Space is not counted
            made = within(self._left, partial(self._answers, space, symbols))
        except TimeoutError:
            minutes = self.night.settings.timeouts.challenger / 60
            self._fail(SpaceUnavailable(f"it took more than its {minutes:g} minutes"))
            return {}
        except KronosError as error:
            self._fail(error)
            return {}
        except Exception as error:  # even a bug here must not affect the champion
            logger.exception("%s is left out", self.asked.name)
            self._fail(error)
            return {}
        finally:
            self._left -= time.monotonic() - began
        return made

    def _answers(self, space: Forecaster, symbols: Sequence[str]) -> Made:
        """Return the forecasts. Raise the first error if no ticker has a forecast."""
        night = self.night
        asked = {symbol: night.histories[symbol] for symbol in symbols}
        settings = replace(night.settings, events=())
        requests = requests_for(asked, settings, night.options, model=self._model)
        answers = [pair for batch in space.forecast_batches(requests) for pair in batch]
        made = {symbol: answer for symbol, answer in answers if isinstance(answer, Forecast)}
        errors = [answer for _, answer in answers if isinstance(answer, KronosError)]
        if errors and not made:
            raise errors[0]
        return made

    def _missing(self) -> list[str]:
        """Return the tickers without a stored forecast of this model from these candles."""
        histories = self.night.histories
        if self.night.options.force:
            return [symbol for symbol in histories if symbol not in self._made]

        def read() -> set[str]:
            with self.night.sessions() as session:
                return already_stored(
                    session,
                    list(histories),
                    as_of={
                        name: bars.index[-1].to_pydatetime() for name, bars in histories.items()
                    },
                    model_name=self._model,
                    interval=INTERVAL,
                    horizon=self.night.settings.horizon,
                    bars={name: bars_hash(bars) for name, bars in histories.items()},
                    challenger=True,
                )

        stored = retried(read, timeouts=self.night.settings.timeouts) - self._made.keys()
        self.outcome = replace(self.outcome, already_there=len(stored))
        return [symbol for symbol in histories if symbol not in stored and symbol not in self._made]

    def _store(self, made: Made) -> None:
        if not made:
            return
        forecasts = self._postprocessing.apply([*made.values()])

        def commit() -> None:
            with signals_held(), self.night.sessions() as session:
                store_forecasts(session, forecasts, challenger=True)

        retried(commit, timeouts=self.night.settings.timeouts)
        self.outcome = replace(self.outcome, stored=self.outcome.stored + len(made))
        for _ in made:
            self.night.reporter.advance()

    def _fail(self, error: Exception) -> None:
        self.outcome = replace(self.outcome, failure=f"left out: {one_line(str(error))}")


@contextmanager
def other_space(
    asked: AskedModel,
    wake_log: WakeLog | None,
    settings: Settings,
    database: JobDatabase,
    shard: Shard,
    reporter: ProgressReporter,
) -> Iterator[Forecaster]:
    """Yield a client of a challenger's Space, woken and paused like the champion's."""
    other = settings_of_model(settings, asked)
    with (
        database.space_lock(other.space_name, shard) as lock,
        open_space(
            other,
            local=False,
            reporter=reporter,
            lock=lock,
            wake_log=wake_log or database.space_notes(),
        ) as client,
    ):
        yield client


def _batches(symbols: Iterable[str]) -> Iterable[list[str]]:
    remaining = iter(symbols)
    while batch := list(islice(remaining, BATCH_SERIES)):
        yield batch
