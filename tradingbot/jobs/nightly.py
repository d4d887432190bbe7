"""The nightly job: its collaborators, and the order of its steps."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass
from functools import partial

from tradingbot.bots.universe import active_tickers
from tradingbot.data.service import DataService
from tradingbot.data.sources.registry import with_absolute_folder
from tradingbot.errors import ConfigError, HubError, KronosError
from tradingbot.forecast import Forecast
from tradingbot.jobs.challengers import Challengers, Night, OpenOther
from tradingbot.jobs.database import JobDatabase
from tradingbot.jobs.lineup import Lineup, lineup_of
from tradingbot.jobs.options import JobOptions
from tradingbot.jobs.pause_unused_spaces import Unused, pause_unused_spaces
from tradingbot.jobs.postprocessing import NightlyPostprocessing, answered
from tradingbot.jobs.run_lock import await_lock, check_at_work
from tradingbot.jobs.sharding import WHOLE
from tradingbot.jobs.steps import (
    Batch,
    Forecaster,
    Histories,
    fetch,
    known_closes,
    read_stored,
    requests_for,
    score_forecasts,
)
from tradingbot.jobs.summary import Ending, PhaseTimer, RunSummary, Status, TickerOutcomes
from tradingbot.persistence.database_locks import locked
from tradingbot.persistence.forecasts import store_forecasts
from tradingbot.persistence.run_log import RunLogWriter
from tradingbot.persistence.transactions import retried
from tradingbot.runtime.lock_interface import Lock
from tradingbot.runtime.progress import ProgressReporter
from tradingbot.runtime.signals import signals_held
from tradingbot.settings import Settings
from tradingbot.space.orphaned_space import WakeLog
from tradingbot.typing import SessionFactory

SpaceOpener = Callable[[Lock, WakeLog | None], AbstractContextManager[Forecaster]]


@dataclass
class NightlyJob:
    """One night's job. `run` runs it; `summary` returns the result, even after an error.

    A ticker's failure is recorded. A failure that concerns all tickers (Hub, Space, database) is
    raised as KronosError; what was stored stays.
    """

    settings: Settings
    options: JobOptions
    database: JobDatabase
    data: DataService
    open_space: SpaceOpener  # yields a running Space, and pauses it at the end
    reporter: ProgressReporter
    open_other: OpenOther | None = None  # opens a challenger's Space

    def __post_init__(self) -> None:
        self._timer = PhaseTimer()
        self._source: str | None = None  # known after planning, like the shard
        self._shard = WHOLE
        self._lineup = Lineup()  # known once the Space is up
        self._challengers = Challengers.none()
        self._wake_log: WakeLog | None = None  # known once the run is logged
        self._tickers = TickerOutcomes()
        self._rows = 0
        # whose Spaces may be running although no run uses them
        self._unused: Unused = "challengers'" if self.options.local else "all"

    def summary(self, ending: Ending) -> RunSummary:
        """Return what was done so far, for a run that ended this way."""
        return RunSummary(
            ending=ending,
            started_at=self._timer.started_at,
            seconds=self._timer.elapsed,
            dry_run=self.database.dry_run,
            source=self._source,
            shard=str(self._shard),
            database=self.database.address,
            local=self.options.local,
            model=self._lineup.champion,
            tickers=self._tickers.snapshot(),
            challengers=self._challengers.outcomes(),
            rows=self._rows,
            durations=dict(self._timer.durations),
        )

    def run(self) -> Ending:
        """Run the job. Pause Spaces that another run left running."""
        try:
            return self._unless_left_running(self._run())
        except BaseException:
            self._pause_left_running()  # the original error is more informative
            raise

    def _run(self) -> Ending:
        """Run under the lock of the database and shard. Do nothing if another run holds it."""
        shard = self.options.shard
        active = self._plan()
        if not self._tickers.snapshot():
            return Ending(
                message=f"Nothing to do: shard {shard} has none of the {len(active)} tickers"
            )
        with (
            self.database.run_lock(shard) as lock,
            self.database.space_lock(self.settings.space_name, shard) as space_lock,
        ):
            if holder := await_lock(lock, self.reporter, self.settings.timeouts):
                check_at_work(holder, self.database, shard, self.settings)
                self._unused = "none"  # the other run pauses them
                return Ending(message=f"Nothing to do: another run is at work, {holder}")
            return self._work(lock, space_lock)

    def _plan(self) -> list[str]:
        """Return all active tickers, and record those of this shard. ConfigError if none."""
        timeouts = self.settings.timeouts
        at_start = partial(retried, patience=timeouts.database_retry_briefly, timeouts=timeouts)
        at_start(self.database.prepare)  # before waking the Space
        source, shard = self.settings.data_source, self.options.shard
        active = list(self.options.symbols) or at_start(
            partial(active_tickers, self.settings, self.data, self.database.readable)
        )
        self._source, self._shard = with_absolute_folder(source), shard
        self._tickers = TickerOutcomes(filter(shard.takes, active))
        if not active:
            raise ConfigError(
                f"there are no tickers to forecast from {source}: give --symbols, "
                "or KRONOS_EXTRA_SYMBOLS"
            )
        return active

    def _work(self, lock: Lock, space_lock: Lock) -> Ending:
        """Forecast, then score mature forecasts. The result is written to run_logs in any case."""
        storage = self.database.storage
        self._wake_log = log = storage and self._begin_log(storage)
        sessions = None if storage is None else partial(locked, storage, lock, space_lock)
        ending = Ending(exit_code=1)
        try:
            self._forecast_all(self.open_space(space_lock, log), sessions)
            ending = self.summary(Ending()).verdict(self.settings.min_success)
            self._score()
            ending = self._unless_left_running(ending)
        except BaseException as error:
            ending = Ending.by(error)
            raise
        finally:
            with signals_held():
                self.reporter.end()
                if log is not None:  # first: printing may fail
                    log.end(**self.summary(ending).record())
                self._look_up_closes()
        return ending

    def _forecast_all(
        self, open_space: AbstractContextManager[Forecaster], sessions: SessionFactory | None
    ) -> None:
        """Wake, fetch, forecast, combine, store, pause. Without `sessions` nothing is stored."""
        with ExitStack() as other_spaces, ExitStack() as stack:
            space = self._wake(stack, open_space)
            histories = self._fetch()
            missing = self._without_stored(histories, sessions)
            self._challengers = self._beside(space, histories, sessions)
            other_spaces.callback(self._challengers.close)
            batches = self._forecast(space, missing)
            stack.enter_context(closing(batches))  # stop sending if storing fails
            postprocessing = sessions and NightlyPostprocessing(
                *(histories, sessions, self.reporter, self.settings.timeouts),
                fetched=self.data.fetched,
            )
            while (batch := self._next_of(batches)) is not None:
                with self._timer.phase("store"):  # while the Space computes the next batch
                    forecasts = self._made_in(batch)
                    if postprocessing:
                        forecasts = postprocessing.apply(forecasts, self._challengers.to_combine)
                    self._store(answered(forecasts, self.settings.events), sessions)
                for _ in batch:
                    self.reporter.advance()
            for remark, symbols in self.summary(Ending()).remarks().items():
                self.reporter.say(f"{', '.join(symbols)}: {remark}")
            self._challengers.forecast_others(elsewhere=False)
            self._pause(stack)
            self._challengers.forecast_others(elsewhere=True)  # does not need this Space

    def _wake(self, stack: ExitStack, open_space: AbstractContextManager[Forecaster]) -> Forecaster:
        with self._timer.phase("wake"):
            self._unused = "challengers'"  # `open_space` pauses the champion's
            space = stack.enter_context(open_space)
            self._lineup = lineup_of(space, self.settings, self.options)
            space.check_key()  # before candles are fetched
        return space

    def _beside(
        self, space: Forecaster, histories: Histories, sessions: SessionFactory | None
    ) -> Challengers:
        """Return the challengers of this night; none in a dry run."""
        if sessions is None:
            return Challengers.none()
        shared = sessions, histories, self.data.fetched, self.reporter, self._timer
        night = Night(self.settings, self.options, *shared, self._wake_log)
        return Challengers(self._lineup.challengers, space, self.open_other, night)

    def _fetch(self) -> Histories:
        with self._timer.phase("fetch"):
            histories, failed = fetch(
                list(self._tickers.snapshot()),
                self.data,
                self.reporter,
                max_staleness=self.settings.max_staleness,
            )
        self._tickers.note_failures(failed)
        return histories

    def _without_stored(self, histories: Histories, sessions: SessionFactory | None) -> Histories:
        """Return the histories from which this model has not forecast yet."""
        if sessions is None or self.options.force:
            return histories
        with self._timer.phase("store"):
            stored = read_stored(
                sessions,
                histories,
                model=str(self._lineup.champion),
                horizon=self.settings.horizon,
                timeouts=self.settings.timeouts,
            )
        self._tickers.note_forecasts("already_there", stored)
        return {symbol: bars for symbol, bars in histories.items() if symbol not in stored}

    def _forecast(self, space: Forecaster, missing: Histories) -> Generator[Batch]:
        if missing:
            self.reporter.step(
                "forecast", f"Forecasting with {self._lineup.champion}", total=len(missing)
            )
        requests = requests_for(missing, self.settings, self.options, model=self._lineup.asked)
        return space.forecast_batches(requests)

    def _next_of(self, batches: Generator[Batch]) -> Batch | None:
        with self._timer.phase("forecast"):
            return next(batches, None)

    def _made_in(self, batch: Batch) -> list[Forecast]:
        """Return the batch's forecasts. Record the other answers as failures."""
        self._tickers.note_failures(
            {symbol: answer for symbol, answer in batch if isinstance(answer, KronosError)}
        )
        return [answer for _, answer in batch if not isinstance(answer, KronosError)]

    def _store(self, forecasts: list[Forecast], sessions: SessionFactory | None) -> None:
        """Commit one batch, so that it survives a crash. Wait for an unavailable database."""
        status: Status = "forecast" if self.database.dry_run else "stored"
        made = {forecast.symbol: forecast for forecast in forecasts}

        def commit() -> None:
            with signals_held():  # a signal in between would make the summary count too few rows
                rows = 0
                if sessions is not None:
                    with sessions() as session:
                        rows = store_forecasts(session, forecasts)
                self._tickers.note_forecasts(status, made)
                self._rows += rows

        retried(commit, timeouts=self.settings.timeouts)

    def _pause(self, stack: ExitStack) -> None:
        self.reporter.step("pause", "Leaving the Space")
        with self._timer.phase("pause"):
            stack.close()

    def _score(self) -> None:
        if self.database.dry_run:
            return
        score_forecasts(
            self.data,
            self.database,
            reporter=self.reporter,
            timer=self._timer,
        )

    def _look_up_closes(self) -> None:
        forecasts = self.summary(Ending()).forecasts
        self._tickers.note_closes(known_closes(self.data, forecasts.values()))

    def _unless_left_running(self, ending: Ending) -> Ending:
        if self._pause_left_running() or ending.exit_code:
            return ending
        return Ending(1, HubError.__name__, "the Space may still be running")

    def _pause_left_running(self) -> bool:
        """Pause Spaces that were left running. Log a failure and return False."""
        of, self._unused = self._unused, "none"
        at = self.settings, self.database, self.options.shard, self.reporter
        return pause_unused_spaces(of, *at, wait_for_lock=of == "all")

    def _begin_log(self, sessions: SessionFactory) -> RunLogWriter:
        began, timeouts = self._timer.started_at, self.settings.timeouts
        details = self.summary(Ending()).details()
        return RunLogWriter.begin(sessions, started_at=began, details=details, timeouts=timeouts)
