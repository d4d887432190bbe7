"""Settings of the service from the environment. Imports no torch."""

import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from kronos_space.environment import environment

# Defaults of requests, chosen by measurement (docs/concepts/settings.md): fewer paths, or a
# top_p below 1, make the bands too narrow.
DEFAULT_SAMPLES = 50
DEFAULT_TOP_P = 1.0


class SettingsError(ValueError):
    """A wrong setting; the text is one line with its name, its value and what is expected."""


def _whole(env: str, default: int | None, low: int, high: int, about: str) -> Any:
    """Declare a whole number that the environment can set."""
    return field(default=default, metadata={"env": env, "low": low, "high": high, "about": about})


def _text(
    env: str, default: str | None, about: str, choices: tuple[str, ...] = (), **kwargs: Any
) -> Any:
    """Declare a text that the environment can set, limited to `choices` if given."""
    metadata = {"env": env, "about": about, "choices": choices}
    return field(default=default, metadata=metadata, **kwargs)


@dataclass(frozen=True)
class Settings:
    """The service's settings; read once, at start-up."""

    model: str = _text(
        "KRONOS_MODEL",
        "kronos-mini",
        "kronos-mini, kronos-small, kronos-base, kronos-nano, a checkpoint folder, one on the Hub "
        "(OWNER/NAME@REVISION), or auto",
    )
    models: str | None = _text(
        "KRONOS_MODELS",
        None,
        "several of these in place of KRONOS_MODEL, separated by commas: a request may name one, "
        "the first is the default",
    )
    api_key: str | None = _text(
        "KRONOS_API_KEY", None, "when set, requests must carry it as X-API-Key", repr=False
    )
    min_history: int = _whole("KRONOS_MIN_HISTORY", 32, 2, 4096, "fewest bars of a history")
    max_history: int = _whole("KRONOS_MAX_HISTORY", 4096, 2, 65536, "most bars of a history")
    max_horizon: int = _whole("KRONOS_MAX_HORIZON", 256, 1, 1024, "most future bars")
    max_samples: int = _whole("KRONOS_MAX_SAMPLES", 256, 1, 4096, "most sample paths of a series")
    max_batch: int = _whole("KRONOS_MAX_BATCH", 256, 1, 4096, "most series of a batch request")
    max_body_mb: int = _whole("KRONOS_MAX_BODY_MB", 32, 1, 1024, "largest request body, in MiB")
    max_queue: int = _whole(
        "KRONOS_MAX_QUEUE", 512, 1, 65536, "most series that may wait for the engine"
    )
    max_work: int = _whole(
        "KRONOS_MAX_WORK",
        1_100_000,
        1,
        999_999_999,
        "most bars of work in one request: for each series, its history's bars and samples times "
        "horizon",
    )
    threads: int | None = _whole(
        "KRONOS_THREADS",
        None,
        1,
        256,
        "CPU threads of the engine (default: the CPUs that the container may use)",
    )
    dtype: str = _text(
        "KRONOS_DTYPE",
        "float32",
        "what products are computed in: float32, bfloat16 (less exact; faster on CPUs with AMX or "
        "AVX-512 BF16), int8 (as inexact; faster on CPUs with VNNI) or auto (the fastest that the "
        "CPU has instructions for, if it is close enough)",
        choices=("float32", "bfloat16", "int8", "auto"),
    )
    log_format: str = _text(
        "KRONOS_LOG_FORMAT",
        "text",
        "log lines as text, or as json: one object per line (the image sets json)",
        choices=("text", "json"),
    )
    shutdown_timeout: int = _whole(
        "KRONOS_SHUTDOWN_TIMEOUT", 25, 1, 600, "seconds that running requests get on SIGTERM"
    )

    @property
    def checkpoints(self) -> list[str]:
        """Return the names in KRONOS_MODELS, or KRONOS_MODEL alone."""
        listed = self.models.split(",") if self.models else [self.model]
        return [name.strip() for name in listed]

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read settings from `environ` (default: the process's). Empty values count as not set.

        Raises SettingsError for an invalid value.
        """
        environ = environment(environ)
        values: dict[str, Any] = {}
        for setting in fields(cls):
            name = setting.metadata["env"]
            value = environ.get(name, "").strip()
            if value:
                read = _number if "low" in setting.metadata else _choice
                values[setting.name] = read(name, value, setting)
        settings = cls(**values)
        if settings.api_key and not (settings.api_key.isascii() and settings.api_key.isprintable()):
            raise SettingsError(  # without the value: it is a secret
                "KRONOS_API_KEY has characters that no HTTP header carries: expected visible ASCII"
            )
        if not all(settings.checkpoints) or len({*settings.checkpoints}) < len(
            settings.checkpoints
        ):
            raise SettingsError(
                f"KRONOS_MODELS={settings.models!r}: expected names with commas between them, each "
                "once, such as kronos-mini,kronos-small"
            )
        if settings.min_history > settings.max_history:
            raise SettingsError(
                f"KRONOS_MIN_HISTORY={settings.min_history}: "
                f"expected at most KRONOS_MAX_HISTORY ({settings.max_history})"
            )
        return settings


def log_format_of(environ: Mapping[str, str] | None = None) -> str:
    """Return KRONOS_LOG_FORMAT, even if other settings are wrong; "text" if it is wrong itself.

    Args:
        environ: Default: the process's.
    """
    value = environment(environ).get("KRONOS_LOG_FORMAT", "")
    return "json" if value.strip() == "json" else "text"


def _number(name: str, value: str, setting: Field[Any]) -> int:
    low, high = setting.metadata["low"], setting.metadata["high"]
    if not (re.fullmatch("[0-9]{1,9}", value) and low <= int(value) <= high):
        raise SettingsError(f"{name}={value!r}: expected a whole number from {low} to {high}")
    return int(value)


def _choice(name: str, value: str, setting: Field[Any]) -> str:
    choices = setting.metadata["choices"]
    if choices and value not in choices:
        raise SettingsError(f"{name}={value!r}: expected one of {', '.join(choices)}")
    return value
