"""What the job and the client are told by their environment: read once, checked here."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Self, cast, get_args
from urllib.parse import urlsplit

from tradingbot.commission import Commission
from tradingbot.errors import ConfigError
from tradingbot.own_calendars import find_file_by
from tradingbot.space_names import DEFAULT_SPACE, contradict, fault_of, repo_at, subdomain_of
from tradingbot.timeouts import Timeouts as Timeouts
from tradingbot.timeouts import default_timeouts as default_timeouts
from tradingbot.timeouts import use_timeouts as use_timeouts

PausePolicy = Literal["always", "if-woken", "never"]

# The sources of candles; `tradingbot.data.sources.registry` opens each. DIR stands for a folder.
SOURCES = ("yahoo", "sample", "csv:DIR")
DEFAULT_SOURCE = "yahoo"
SOURCES_IN_WORDS = " or ".join([", ".join(SOURCES[:-1]), SOURCES[-1]])

MAX_HORIZON = 256  # what a Space accepts at most
MAX_SAMPLES = 256
MAX_SHARDS = 1000

# How paths are drawn, chosen by measurement (docs/concepts/settings.md). With 0.9, the Space's own
# default for top_p, the tails are cut off and the bands are too narrow.
TEMPERATURE = 1.0
TOP_P = 1.0


def environment(environ: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """Return `environ`, by default the variables of this process, which no other module reads.

    Without what a file has besides its text, for secrets often come from one: line ends, and the
    mark of its byte order that Windows puts first.
    """
    environ = os.environ if environ is None else environ
    return {name: value.lstrip("\ufeff").rstrip("\r\n") for name, value in environ.items()}


@dataclass(frozen=True)
class Settings:
    """What the job needs to know. The database's address is `tradingbot.persistence.engine`'s."""

    space_url: str | None = None  # KRONOS_SPACE_URL, without a trailing slash
    api_key: str | None = field(default=None, repr=False)  # KRONOS_API_KEY
    hf_token: str | None = field(default=None, repr=False)  # HF_TOKEN, a write token
    hf_space_repo: str = DEFAULT_SPACE  # HF_SPACE_REPO; "" where the address does not tell it
    space_is_named: bool = field(default=True, compare=False, repr=False)  # by HF_SPACE_REPO
    horizon: int = 5  # KRONOS_HORIZON, future bars
    samples: int = 50  # KRONOS_SAMPLES, sample paths a ticker
    extra_symbols: tuple[str, ...] = ("SPY", "QQQ", "GLD")  # KRONOS_EXTRA_SYMBOLS
    data_source: str = DEFAULT_SOURCE  # KRONOS_DATA_SOURCE, one of SOURCES
    min_success: float = 0.5  # KRONOS_MIN_SUCCESS, share of the tickers
    wake_timeout: float = 900.0  # KRONOS_WAKE_TIMEOUT, seconds
    pause: PausePolicy = "always"  # KRONOS_PAUSE
    max_staleness: int = 5  # KRONOS_MAX_STALENESS, sessions
    shards: int = 1  # KRONOS_SHARDS, parts that the tickers are dealt into
    completion_index: int | None = None  # JOB_COMPLETION_INDEX, which of them is this pod's
    max_jump: float = 1.0  # KRONOS_MAX_JUMP, the largest break of scale that is taken as real
    slippage_bps: float = 5.0  # KRONOS_SLIPPAGE_BPS, what a bot's paper trade costs
    commission: Commission = field(default_factory=Commission)  # KRONOS_COMMISSION…
    timeouts: Timeouts = field(default_factory=default_timeouts, repr=False)  # no variable sets it

    @property
    def space_is_a_strangers(self) -> bool:
        """Whether this is the default Space, and HF_SPACE_REPO does not say that it is meant."""
        default = self.space_url is None or repo_at(self.space_url) == DEFAULT_SPACE
        return default and not self.space_is_named

    @property
    def space_name(self) -> str:
        """The Space's name on the Hub, else its address."""
        return self.hf_space_repo or self.space_url or ""

    @property
    def space_in_words(self) -> str:
        """Whose Space it is, and where: 'me/space at https://me-space.hf.space'."""
        default = "the default Space " if self.space_is_a_strangers else ""
        return " at ".join(filter(None, [default + self.hf_space_repo, self.space_url]))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read and check every setting; a wrong one is a ConfigError that names it.

        A variable that is empty counts as unset, as Helm charts and shells leave them.
        """
        env = _Environment(environment(environ))
        return replace(
            cls.of_the_space(environ),
            horizon=env.whole("KRONOS_HORIZON", cls.horizon, 1, MAX_HORIZON),
            samples=env.whole("KRONOS_SAMPLES", cls.samples, 1, MAX_SAMPLES),
            extra_symbols=env.symbols("KRONOS_EXTRA_SYMBOLS", cls.extra_symbols),
            data_source=env.source("KRONOS_DATA_SOURCE", cls.data_source),
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
        """Those settings alone that say which Space is woken and paused, and how; ConfigError."""
        env = _Environment(environment(environ))
        url, repo = env.url("KRONOS_SPACE_URL"), env.repo("HF_SPACE_REPO")
        space_url, hf_space_repo = which_space(url, repo)
        env.url("HF_ENDPOINT")  # which `hub_endpoint` reads
        return cls(
            space_url=space_url,
            api_key=env.secret("KRONOS_API_KEY"),
            hf_token=env.secret("HF_TOKEN"),
            hf_space_repo=hf_space_repo,
            space_is_named=repo is not None,
            pause=env.pause("KRONOS_PAUSE", cls.pause),
        )


def which_space(url: str | None, repo: str | None) -> tuple[str | None, str]:
    """The Space's address and its name on the Hub, each as given or as it follows from the other.

    The address is None where neither is given, the name "" where the address does not tell it.
    ConfigError where they are of two Spaces.
    """
    subdomain = repo and subdomain_of(repo)
    own_url = f"https://{subdomain}.hf.space" if subdomain else None
    if url is None:
        return own_url, repo or DEFAULT_SPACE
    if repo is None:
        return url, repo_at(url) or ""
    if contradict(url, repo):
        raise ConfigError(
            f"KRONOS_SPACE_URL={url!r} and HF_SPACE_REPO={repo!r} are two Spaces: the second is "
            f"at {own_url}; correct one of them, or leave one out"
        )
    return url, repo


def calendars_file() -> str | None:
    """The path in KRONOS_CALENDARS: which exchange a ticker belongs to, where no rule tells."""
    return environment().get("KRONOS_CALENDARS", "").strip() or None


find_file_by(calendars_file)


def hub_endpoint(environ: Mapping[str, str] | None = None) -> str | None:
    """The Hub's address where HF_ENDPOINT names another than https://huggingface.co."""
    return _Environment(environment(environ)).url("HF_ENDPOINT")


def check_recipient(settings: Settings, *secrets: Literal["KRONOS_API_KEY", "HF_TOKEN"]) -> None:
    """ConfigError if one of these secrets is set and would be used with a stranger's Space."""
    values = {"KRONOS_API_KEY": settings.api_key, "HF_TOKEN": settings.hf_token}
    given = " and ".join(name for name in secrets if values[name])
    if not given or not settings.space_is_a_strangers:
        return
    if settings.space_url is None:
        raise ConfigError(
            "KRONOS_SPACE_URL is not set: give the Space's address (https://owner-space.hf.space), "
            f"or its name as HF_SPACE_REPO (owner/space); {given} is not used with the default one"
        )
    raise ConfigError(
        f"HF_SPACE_REPO is not set, and {given} would be used with the default Space, "
        f"{DEFAULT_SPACE}: set HF_SPACE_REPO to your own Space (owner/space), or to that one if "
        "it is meant"
    )


def parse_symbols(text: str) -> tuple[str, ...]:
    """'spy, QQQ,,SPY' -> ('SPY', 'QQQ'): order kept, each once, as exchanges write them."""
    return tuple(dict.fromkeys(name for part in text.upper().split(",") if (name := part.strip())))


def check_symbols(name: str, text: str) -> tuple[str, ...]:
    """Tickers, one at least; ConfigError names `name`, which the user set."""
    if symbols := parse_symbols(text):
        return symbols
    raise _wrong(name, text, "tickers, such as SPY,QQQ")


def check_source(name: str, text: str) -> str:
    """A data source by name; ConfigError names `name`, which the user set."""
    if split_source(text)[0] in SOURCES:
        return text
    raise _wrong(name, text, f"{SOURCES_IN_WORDS} (a folder with one file a ticker)")


def split_source(text: str) -> tuple[str, str]:
    """'csv:candles' -> ('csv:DIR', 'candles'), 'yahoo' -> ('yahoo', ''); as SOURCES names them."""
    kind, _, folder = text.partition(":")
    return (f"{kind}:DIR", folder) if folder else (text, "")


def check_secret(name: str, text: str) -> str:
    """A key or token that an HTTP header can carry; ConfigError names `name`, never the value."""
    if text.isascii() and text.isprintable():
        return text
    raise ConfigError(f"{name} has characters that no HTTP header carries: expected visible ASCII")


def check_whole(name: str, text: str, low: int, high: int) -> int:
    """A whole number in [low, high]; ConfigError names `name`, which the user set."""
    # int alone would let through digits of other scripts and 1_0, and refuse thousands of digits
    if re.fullmatch("0*[0-9]{1,9}", text) and low <= int(text.lstrip("0") or 0) <= high:
        return int(text.lstrip("0") or 0)
    raise _wrong(name, text, f"a whole number from {low} to {high}")


def check_number(name: str, text: str, low: float, high: float) -> float:
    """A number in [low, high]; ConfigError names `name`, which the user set."""
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if low <= value <= high:  # false for nan
        return value
    raise _wrong(name, text, f"a number from {low:g} to {high:g}")


def _wrong(name: str, text: str, expected: str) -> ConfigError:
    return ConfigError(f"{name}={text!r}: expected {expected}")


class _Environment:
    """Typed access to variables; whatever does not fit is a ConfigError."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ

    def text(self, name: str) -> str | None:
        return self.environ.get(name, "").strip() or None

    def secret(self, name: str) -> str | None:
        text = self.text(name)
        return None if text is None else check_secret(name, text)

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        text = self.text(name)
        return default if text is None else check_whole(name, text, low, high)

    def optional_whole(self, name: str, low: int, high: int) -> int | None:
        text = self.text(name)
        return None if text is None else check_whole(name, text, low, high)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        text = self.text(name)
        return default if text is None else check_number(name, text, low, high)

    def symbols(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        # set but empty means "none besides the bots' own", so only an unset one has the default
        return parse_symbols(self.environ[name]) if name in self.environ else default

    def url(self, name: str) -> str | None:
        text = self.text(name)
        return None if text is None else check_url(name, text)

    def repo(self, name: str) -> str | None:
        text = self.text(name)
        if text is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", text, re.ASCII):
            raise _wrong(name, text, "the Space's name on the Hub, as in owner/space")
        return text

    def source(self, name: str, default: str) -> str:
        text = self.text(name)
        return default if text is None else check_source(name, text)

    def pause(self, name: str, default: PausePolicy) -> PausePolicy:
        text = self.text(name) or default
        if text not in get_args(PausePolicy):
            raise _wrong(name, text, " or ".join(get_args(PausePolicy)))
        return cast("PausePolicy", text)


def check_url(name: str, text: str) -> str:
    """An http(s) address without its trailing slash; ConfigError names `name`.

    One that holds a user, a password or a query is refused, and not shown: it may be a secret.
    """
    if fault := fault_of(text):
        raise ConfigError(f"{name} {fault}")
    example = "huggingface.co" if name == "HF_ENDPOINT" else "owner-space.hf.space"
    expected = f"an address such as https://{example}"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # a wrong port is a ValueError here
    except ValueError:
        raise _wrong(name, text, expected) from None
    if parts.scheme not in ("http", "https") or not host or not text.isprintable():
        raise _wrong(name, text, expected)
    return text.rstrip("/")
