"""The environment of the job in a chaos schedule: a Hub, a Space, a database, candles."""

import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from tests.support import ROOT, commands
from tests.support import hub as hub_module
from tests.support.checkpoints import NANO
from tests.support.commands import Command
from tests.support.hub import REPO, TOKEN, HostedSpace, Hub
from tests.support.pgbouncer import pooled
from tests.support.postgres import PASSWORD, DatabaseProxy, Postgres
from tests.support.quick_job import OTHER_SPACES
from tests.support.space_server import launch
from tradingbot.jobs.sharding import Shard

if TYPE_CHECKING:
    from tests.chaos.faults import Fault

MODELS = ("tuned", "wild")  # of challengers
API_KEY = "s3cret-key-of-the-space"
SECRETS = (TOKEN, PASSWORD, API_KEY)
HORIZON = 3
BARS = 48
LAST_FRIDAY = datetime(2024, 3, 8)
TICKERS = (
    *("AAPL", "AMZN", "BTC-USD", "CAT", "EURUSD=X", "GLD"),
    *("IBM", "KO", "MSFT", "NVDA", "QQQ", "SPY"),
)
TIME_BOUND = 45.0  # seconds for one run, which takes about five
WHOLE = Shard()  # all tickers


@dataclass
class Run:
    """A process of the job."""

    process: Command
    folder: Path
    name: str
    tickers: frozenset[str]  # of its shard
    forced: bool  # --force
    ends_with: int | None = None  # exit code if it ends before it wakes the Space
    time_bound: float = TIME_BOUND
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    signals: list[int] = field(default_factory=list)  # signals sent while the process was alive
    in_time: bool = True

    @property
    def code(self) -> int:
        """The exit code as shells and Kubernetes report it; a second signal may kill a finished
        run.
        """
        status = self.process.wait()
        return 128 - status if status < 0 else status

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it, so that it could not clean up."""
        return signal.SIGKILL in self.signals or not self.in_time

    def send(self, number: int) -> bool:
        """Send a signal; return whether the process was alive."""
        if self.process.poll() is not None:
            return False
        self.process.send_signal(number)
        self.signals.append(number)
        return True

    def poll(self) -> bool:
        """Return whether the run has ended; end it if it takes too long."""
        if self.ended:
            return True
        if self.process.poll() is None and time.monotonic() - self.began > self.time_bound:
            self.in_time = False
            self.process.kill()
            self.process.wait()
        if self.process.poll() is not None:
            self.ended = time.monotonic()
        return bool(self.ended)

    def leftovers(self) -> list[str]:
        """End and return the processes that the run left behind."""
        found = []
        for process in psutil.process_iter(["pid", "cmdline"]):
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if process.pid != self.process.pid and os.getsid(process.pid) == self.process.pid:
                    found.append(" ".join(process.info["cmdline"] or []))
                    process.kill()
        return found

    @property
    def report(self) -> dict[str, Any]:
        """Return the report that it printed with --json, or {} if it should print none."""
        found: dict[str, Any] = json.loads(self.out or "{}")
        return found

    @property
    def out(self) -> str:
        return (self.folder / f"{self.name}.out").read_text(errors="replace")

    @property
    def err(self) -> str:
        return (self.folder / f"{self.name}.err").read_text(errors="replace")


class World:
    """The environment of the job. While it is armed, `faults` happen."""

    def __init__(
        self,
        faults: Sequence["Fault"],
        *,
        folder: Path,
        postgres: Postgres,
        template: str | None,
        settings: Mapping[str, str],
        lineup: Mapping[str, str] | None = None,
        models: Path | None = None,
    ) -> None:
        """Prepare the environment.

        `lineup` maps challengers to their Spaces; `models` has their checkpoints.
        """
        self.faults = faults
        self.folder = folder
        self.postgres = postgres
        self.database = f"chaos_{folder.name.replace('-', '_')}"
        self.template = template
        self.settings = settings
        self.lineup = lineup or {}
        self.time_bound = TIME_BOUND * (2 if self.lineup else 1)
        self.others: list[HostedSpace] = []  # Spaces of challengers
        folders = "" if models is None else ",".join(str(models / name) for name in MODELS)
        self._environ_of_others = {"KRONOS_API_KEY": API_KEY, "KRONOS_MODELS": folders}
        self.runs: list[Run] = []
        self.counts: Counter[str] = Counter()
        self.armed = False
        self._lock = threading.Lock()
        self._pausing: dict[str, bool] = {}  # repo -> whether its stage is read after a pause
        self._timers: list[threading.Timer] = []
        self._candles = folder / "candles"
        self._pooled: str | None = None  # the database's URL through pgbouncer
        self._pooler = ExitStack()

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        write_candles(self._candles)
        with ExitStack() as stack:
            template = f" TEMPLATE {self.template}" if self.template else ""
            self.postgres.execute(f"CREATE DATABASE {self.database}{template}")
            stack.callback(self.postgres.execute, f"DROP DATABASE {self.database} WITH (FORCE)")
            self.proxy = stack.enter_context(
                DatabaseProxy(self.postgres, self.database, happens=self.happens)
            )
            self.hub = stack.enter_context(
                Hub(
                    environ={"KRONOS_API_KEY": API_KEY},
                    old_lingers=0.05,
                    launch=launch,
                    happens=self.happens,
                )
            )
            self.hub.log = ["MemoryError: the model is too large\n"]  # a log without a stack trace
            for repo in dict.fromkeys(self.lineup.values()):
                space = self.hub.add(repo)
                space.happens = partial(self.happens, prefix="other ", repo=repo)
                space.environ = self._environ_of_others
                self.others.append(space)
            stack.callback(self._end)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    # events ---------------------------------------------------------------------------------

    def happens(self, event: str, prefix: str = "", repo: str = REPO) -> hub_module.Fault | None:
        """Count the event and trigger the faults that wait for it."""
        with self._lock:
            if not self.armed:
                return None
            if event in ("restart", "pause"):
                self._pausing[repo] = event == "pause"
            elif event == "runtime" and self._pausing.get(repo):
                event = "verify"
            event = prefix + event
            self.counts[event] += 1
            number = self.counts[event]
            due = [f for f in self.faults if f.moment == event and f.covers(number)]
        answer = None
        for fault in due:
            result = fault.act(self)
            fault.fired += 1
            answer = result if answer is None else answer
        return answer

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def calm(self) -> None:
        """Stop all faults; Hub and database work again, and the data stay as they are."""
        with self._lock:
            self.armed = False
        for timer in self._timers:
            timer.cancel()
            timer.join()
        self._pooled = None
        self._pooler.close()
        self.hub.environ = {"KRONOS_API_KEY": API_KEY}
        for space in self.others:
            space.environ = self._environ_of_others
        for space in self.hub.spaces.values():
            space.ends_as = "RUNNING"
        self.proxy.cut()  # drop the unsent data of dead clients before traffic resumes
        self.proxy.flow()
        self.proxy.accept()
        self.open_database()
        self.postgres.end_sessions(self.database)

    def pool(self, size: int) -> None:
        """Let later runs reach the database through pgbouncer with transaction pooling."""
        url = self.postgres.url(self.database)
        self._pooled = self._pooler.enter_context(pooled(url, size=size))

    def close_database(self) -> None:
        """Make the server refuse all connections."""
        self.postgres.execute(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS false")
        self.postgres.end_sessions(self.database)

    def open_database(self) -> None:
        self.postgres.execute(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS true")

    # the job --------------------------------------------------------------------------------

    def start(
        self,
        name: str,
        *arguments: str,
        shard: Shard = WHOLE,
        settings: Mapping[str, str] | None = None,
        ends_with: int | None = None,
    ) -> Run:
        """Start the job as a process; its output goes to files in the schedule's folder."""
        job = ["run", "--json", "--horizon", str(HORIZON), "--source", f"csv:{self._candles}"]
        job += ["--symbols", ",".join(TICKERS), *arguments]
        part = {"KRONOS_SHARDS": str(shard.count), "JOB_COMPLETION_INDEX": str(shard.index)}
        with (
            Path(os.devnull).open("rb") as nothing,
            (self.folder / f"{name}.out").open("wb") as out,
            (self.folder / f"{name}.err").open("wb") as err,
        ):
            process = commands.start(
                "tests.support.quick_job",
                *job,
                cwd=self.folder,
                env={**_own_environment(), **self._settings(), **part, **(settings or {})},
                stdin=nothing.fileno(),
                stdout=out.fileno(),
                stderr=err.fileno(),
            )
        tickers = frozenset(ticker for ticker in TICKERS if shard.takes(ticker))
        run = Run(
            process, self.folder, name, tickers, "--force" in arguments, ends_with, self.time_bound
        )
        self.runs.append(run)
        return run

    def wait(self) -> None:
        """Wait until every run has ended, including those that start meanwhile."""
        while [run for run in self.runs if not run.poll()]:
            time.sleep(0.01)

    def settle(self) -> None:
        """Wait until no start of a Space is pending."""
        for space in self.hub.spaces.values():
            space.settle()

    def _settings(self) -> dict[str, str]:
        others = [f"{model}={repo}" for model, repo in self.lineup.items()]
        return {
            "HF_ENDPOINT": self.hub.url,
            "HF_TOKEN": TOKEN,
            "HF_SPACE_REPO": REPO,
            "HF_HOME": str(self.folder / "hub"),
            "KRONOS_SPACE_URL": self.hub.space_url,
            "KRONOS_API_KEY": API_KEY,
            "KRONOS_SAMPLES": "2",
            "KRONOS_EVENTS": "drawdown above 1%",
            "DATABASE_URL": self._pooled or self.proxy.url,
            "KRONOS_MODELS": ",".join(["kronos-nano", *others]) if others else "",
            OTHER_SPACES: f"{self.hub.url}/spaces",
            "PYTHONPATH": str(ROOT),
            **self.settings,
        }

    def _end(self) -> None:
        self.calm()
        for run in self.runs:
            if run.process.poll() is None:
                run.process.kill()
                run.process.wait()
            run.leftovers()

    # candles --------------------------------------------------------------------------------

    def candle_file(self, ticker: str) -> Path:
        return self._candles / f"{ticker}.csv"


def write_candles(folder: Path) -> None:
    """Write a file for each ticker, with BARS daily candles up to LAST_FRIDAY."""
    folder.mkdir()
    for number, ticker in enumerate(TICKERS):
        rows = [
            f"{day:%Y-%m-%d},{close},{close + 1},{close - 1},{close},1000"
            for close, day in enumerate(_days(ticker), start=50 + 10 * number)
        ]
        text = "\n".join(["date,open,high,low,close,volume", *rows]) + "\n"
        (folder / f"{ticker}.csv").write_text(text)


def write_models(folder: Path) -> None:
    """Write a checkpoint for each of MODELS: copies of kronos-nano under other names."""
    about = json.loads((NANO / "kronos.json").read_text())
    for name in MODELS:
        shutil.copytree(NANO, folder / name)
        (folder / name / "kronos.json").write_text(json.dumps(about | {"name": name}))


def _days(ticker: str) -> list[datetime]:
    """Return the BARS newest weekdays; holidays do not matter here."""
    days = (LAST_FRIDAY - timedelta(days=back) for back in range(3 * BARS))
    traded = [day for day in days if ticker == "BTC-USD" or day.weekday() < 5]
    return traded[BARS - 1 :: -1]


def _own_environment() -> dict[str, str]:
    ours = ("KRONOS_", "HF_", "POSTGRES_", "DATABASE_URL")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@contextmanager
def schema_template(postgres: Postgres) -> Iterator[str]:
    """Return a database with the current schema and no rows, to be copied."""
    from tradingbot.persistence.engine import dispose_engines, init_db

    postgres.execute("CREATE DATABASE chaos_template")
    init_db(postgres.url("chaos_template"))
    dispose_engines()
    yield "chaos_template"
    postgres.execute("DROP DATABASE chaos_template WITH (FORCE)")
