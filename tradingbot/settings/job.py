"""Settings of the job and the client: read from the environment once, and checked here.

An invalid setting raises ConfigError, whose text names the setting.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self, cast, get_args

from tradingbot.environment import environment
from tradingbot.errors import ConfigError
from tradingbot.path_events.grammar import Event, parse_events
from tradingbot.settings.commission import Commission
from tradingbot.settings.models import AskedModel, parse_models
from tradingbot.settings.variables import Environment, variable, wrong
from tradingbot.space_names import DEFAULT_SPACE, contradict, repo_at, subdomain_of
from tradingbot.timeouts import Timeouts, default_timeouts

PausePolicy = Literal["always", "if-woken", "never"]

# Sources of candles, which `tradingbot.data.sources.registry` opens. DIR is a folder.
SOURCES = ("yahoo", "sample", "csv:DIR")
DEFAULT_SOURCE = "yahoo"
SOURCES_IN_WORDS = " or ".join([", ".join(SOURCES[:-1]), SOURCES[-1]])

MAX_HORIZON = 256  # MAX_HORIZON and MAX_SAMPLES are also the limits of a Space
MAX_SAMPLES = 256
MAX_SHARDS = 1000

# Variables that are read without a `Settings` object.
VARIABLES = {
    "HF_ENDPOINT": "address of a Hub other than https://huggingface.co",
}

# Sampling parameters, chosen by measurement (docs/concepts/settings.md). A top_p of 0.9, the
# default of the reference implementation, cuts off the tails of the distribution.
TEMPERATURE = 1.0
TOP_P = 1.0


@dataclass(frozen=True)
class Settings:
    """Settings of the job. The address of the database is in `tradingbot.persistence.engine`."""

    space_url: str | None = variable(
        "KRONOS_SPACE_URL",
        None,
        "address of the Space, such as `https://owner-space.hf.space`",
        shown="derived from HF_SPACE_REPO",
    )  # without a trailing slash
    api_key: str | None = variable(
        "KRONOS_API_KEY", None, "API key of the Space, if it requires one", repr=False
    )
    hf_token: str | None = variable(
        "HF_TOKEN",
        None,
        "write token of the Space's owner, for waking and pausing the Space. It is sent to the "
        "Hub and to a private Space under hf.space, and never shown",
        repr=False,
    )
    hf_space_repo: str = variable(  # "" if the address does not reveal the name
        "HF_SPACE_REPO",
        DEFAULT_SPACE,
        "name of the Space on the Hub, such as `owner/space`",
        shown="derived from KRONOS_SPACE_URL",
    )
    # whether HF_SPACE_REPO is set
    space_is_named: bool = field(default=True, compare=False, repr=False)
    horizon: int = variable("KRONOS_HORIZON", 5, f"horizon in bars, at most {MAX_HORIZON}")
    samples: int = variable("KRONOS_SAMPLES", 50, f"sample paths per ticker, at most {MAX_SAMPLES}")
    extra_symbols: tuple[str, ...] = variable(
        "KRONOS_EXTRA_SYMBOLS",
        ("SPY", "QQQ", "GLD"),
        "tickers in addition to those of the bots; empty: none",
        shown="SPY,QQQ,GLD",
    )
    events: tuple[Event, ...] = variable(
        "KRONOS_EVENTS",
        (),
        "events to estimate, store and score for every ticker, separated by "
        "commas, such as `touch +2%, reach +3% before -2%`",
        shown="none",
    )
    models: tuple[AskedModel, ...] = variable(
        "KRONOS_MODELS",
        (),
        "models that forecast every night, separated by commas. Bots use the forecasts of the "
        "first; the others are compared with it. NAME is one of the Space's "
        "`KRONOS_MODELS`, `NAME=owner/space` or `NAME=https://…` a model of another Space",
        shown="the first model of the Space",
    )
    data_source: str = variable(
        "KRONOS_DATA_SOURCE",
        DEFAULT_SOURCE,
        "source of candles: `yahoo`, `csv:DIR` or `sample`",
    )
    min_success: float = variable(
        "KRONOS_MIN_SUCCESS",
        0.5,
        "share of tickers that must have a forecast for the run to succeed",
    )
    wake_timeout: float = variable(
        "KRONOS_WAKE_TIMEOUT", 900.0, "seconds to wait for the Space to start", shown="900"
    )
    pause: PausePolicy = variable(
        "KRONOS_PAUSE",
        "always",
        "whether to pause the Space after the last run: `always`, `if-woken` or `never`",
    )
    max_staleness: int = variable(
        "KRONOS_MAX_STALENESS", 5, "number of sessions that a ticker's newest bar may be behind"
    )
    shards: int = variable(
        "KRONOS_SHARDS",
        1,
        f"number of parts into which the tickers are split, at most {MAX_SHARDS}",
    )
    completion_index: int | None = variable(
        "JOB_COMPLETION_INDEX", None, "index of this run's part; Kubernetes sets it"
    )
    max_jump: float = variable(
        "KRONOS_MAX_JUMP",
        1.0,
        "largest factor by which the scale of prices may change between two bars (splits, "
        "pence and pounds); `--allow-jumps` allows any",
        shown="1",
    )
    slippage_bps: float = variable(
        "KRONOS_SLIPPAGE_BPS",
        5.0,
        "slippage of a paper trade, in basis points of its value",
        shown="5",
    )
    commission: Commission = field(default_factory=Commission)
    # not set by any variable
    timeouts: Timeouts = field(default_factory=default_timeouts, repr=False)

    @property
    def uses_default_space(self) -> bool:
        """Return whether this is the default Space, not named explicitly by HF_SPACE_REPO."""
        default = self.space_url is None or repo_at(self.space_url) == DEFAULT_SPACE
        return default and not self.space_is_named

    @property
    def space_name(self) -> str:
        """Return the Space's name on the Hub, or else its address."""
        return self.hf_space_repo or self.space_url or ""

    @property
    def space_in_words(self) -> str:
        """Describe the Space: 'me/space at https://me-space.hf.space'."""
        default = "the default Space " if self.uses_default_space else ""
        return " at ".join(filter(None, [default + self.hf_space_repo, self.space_url]))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read and check every setting.

        An empty variable counts as unset, because Helm charts and shells set empty variables.
        """
        env = Environment(environment(environ))
        return replace(
            cls.of_the_space(environ),
            horizon=env.whole("KRONOS_HORIZON", cls.horizon, 1, MAX_HORIZON),
            samples=env.whole("KRONOS_SAMPLES", cls.samples, 1, MAX_SAMPLES),
            extra_symbols=_extra_symbols(env, cls.extra_symbols),
            events=_events(env),
            models=parse_models(text) if (text := env.text("KRONOS_MODELS")) else (),
            data_source=check_source(
                "KRONOS_DATA_SOURCE", env.text("KRONOS_DATA_SOURCE") or cls.data_source
            ),
            min_success=env.number("KRONOS_MIN_SUCCESS", cls.min_success, 0, 1),
            wake_timeout=env.number("KRONOS_WAKE_TIMEOUT", cls.wake_timeout, 1, 86_400),
            max_staleness=env.whole("KRONOS_MAX_STALENESS", cls.max_staleness, 0, 10_000),
            shards=env.whole("KRONOS_SHARDS", cls.shards, 1, MAX_SHARDS),
            completion_index=env.optional_whole("JOB_COMPLETION_INDEX", 0, 1_000_000),
            max_jump=env.number("KRONOS_MAX_JUMP", cls.max_jump, 1, 1e12),
            slippage_bps=env.number("KRONOS_SLIPPAGE_BPS", cls.slippage_bps, 0, 1_000),
            commission=Commission.read(env.number),
        )

    @classmethod
    def of_the_space(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read only the settings that select the Space and control waking and pausing it."""
        env = Environment(environment(environ))
        url, repo = env.url("KRONOS_SPACE_URL"), _repo(env)
        space_url, hf_space_repo = which_space(url, repo)
        env.url("HF_ENDPOINT")  # checked here; `hub_endpoint` reads it
        return cls(
            space_url=space_url,
            api_key=env.secret("KRONOS_API_KEY"),
            hf_token=env.secret("HF_TOKEN"),
            hf_space_repo=hf_space_repo,
            space_is_named=repo is not None,
            pause=_pause(env, cls.pause),
        )


def which_space(url: str | None, repo: str | None) -> tuple[str | None, str]:
    """Return the Space's address and its name on the Hub.

    If only one of them is given, derive the missing one. If neither is given, the address is None
    and the name is that of the default Space. The name is "" if the address does not reveal it.
    """
    subdomain = repo and subdomain_of(repo)
    expected_url = f"https://{subdomain}.hf.space" if subdomain else None
    if url is None:
        return expected_url, repo or DEFAULT_SPACE
    if repo is None:
        return url, repo_at(url) or ""
    if contradict(url, repo):
        raise ConfigError(
            f"KRONOS_SPACE_URL={url!r} and HF_SPACE_REPO={repo!r} are two Spaces: the second is "
            f"at {expected_url}; correct or remove one of them"
        )
    return url, repo


def hub_endpoint(environ: Mapping[str, str] | None = None) -> str | None:
    """Return the Hub's address if HF_ENDPOINT sets one other than https://huggingface.co."""
    return Environment(environment(environ)).url("HF_ENDPOINT")


def check_recipient(settings: Settings, *secrets: Literal["KRONOS_API_KEY", "HF_TOKEN"]) -> None:
    """Refuse to send a secret to the default Space unless the user has named that Space."""
    values = {"KRONOS_API_KEY": settings.api_key, "HF_TOKEN": settings.hf_token}
    given = " and ".join(name for name in secrets if values[name])
    if not given or not settings.uses_default_space:
        return
    if settings.space_url is None:
        raise ConfigError(
            "KRONOS_SPACE_URL is not set: give the Space's address (https://owner-space.hf.space), "
            f"or its name as HF_SPACE_REPO (owner/space); {given} is not used with the default one"
        )
    raise ConfigError(
        f"HF_SPACE_REPO is not set, and {given} would be used with the default Space, "
        f"{DEFAULT_SPACE}: set HF_SPACE_REPO to your own Space (owner/space) or to this one"
    )


def parse_symbols(text: str) -> tuple[str, ...]:
    """Split tickers, upper case and without duplicates: 'spy, QQQ,,SPY' -> ('SPY', 'QQQ')."""
    return tuple(dict.fromkeys(name for part in text.upper().split(",") if (name := part.strip())))


def check_symbols(name: str, text: str) -> tuple[str, ...]:
    """Return the tickers in `text`. Raise ConfigError if there is none."""
    if symbols := parse_symbols(text):
        return symbols
    raise wrong(name, text, "tickers, such as SPY,QQQ")


def check_source(name: str, text: str) -> str:
    """Return `text` if it names a data source. Raise ConfigError otherwise."""
    if split_source(text)[0] in SOURCES:
        return text
    raise wrong(name, text, f"{SOURCES_IN_WORDS} (a folder with one file per ticker)")


def split_source(text: str) -> tuple[str, str]:
    """Split a source into name and folder: 'csv:candles' -> ('csv:DIR', 'candles')."""
    kind, _, folder = text.partition(":")
    return (f"{kind}:DIR", folder) if folder else (text, "")


def _extra_symbols(env: Environment, default: tuple[str, ...]) -> tuple[str, ...]:
    # An empty variable means no extra tickers, so the default applies only to an unset variable.
    given = env.environ.get("KRONOS_EXTRA_SYMBOLS")
    return default if given is None else parse_symbols(given)


def _events(env: Environment) -> tuple[Event, ...]:
    """Return the events of KRONOS_EVENTS.

    The events may not contain prices, because each event applies to every ticker.
    """
    text = env.text("KRONOS_EVENTS") or ""
    try:
        return parse_events(text, prices=False)
    except ValueError as error:
        shown = text if len(text) <= 60 else text[:60] + "…"
        raise ConfigError(f"KRONOS_EVENTS={shown!r}: {error}") from None


def _repo(env: Environment) -> str | None:
    text = env.text("HF_SPACE_REPO")
    if text is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", text, re.ASCII):
        raise wrong("HF_SPACE_REPO", text, "the Space's name on the Hub, as in owner/space")
    return text


def _pause(env: Environment, default: PausePolicy) -> PausePolicy:
    text = env.text("KRONOS_PAUSE") or default
    if text not in get_args(PausePolicy):
        raise wrong("KRONOS_PAUSE", text, " or ".join(get_args(PausePolicy)))
    return cast("PausePolicy", text)
