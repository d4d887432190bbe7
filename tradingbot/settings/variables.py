"""Declare environment variables as dataclass fields, read them as typed values, check them."""

import math
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any
from urllib.parse import urlsplit

from tradingbot.errors import ConfigError
from tradingbot.space_names import fault_of


def variable(env: str, default: Any, about: str, shown: str | None = None, **kwargs: Any) -> Any:
    """Declare a dataclass field that the environment variable `env` sets.

    Args:
        env: name of the variable.
        default: value if the variable is unset.
        about: description in the settings reference.
        shown: default in the settings reference, if it differs from `str(default)`.
        **kwargs: passed to `dataclasses.field`.
    """
    shown = ("" if default is None else str(default)) if shown is None else shown
    return field(default=default, metadata={"env": env, "about": about, "default": shown}, **kwargs)


class Environment:
    """Typed access to environment variables. An invalid value raises ConfigError."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ

    def text(self, name: str) -> str | None:
        """Return the value without surrounding whitespace, or None if it is empty or unset."""
        return self.environ.get(name, "").strip() or None

    def secret(self, name: str) -> str | None:
        """Return a key or token that can be sent in an HTTP header."""
        text = self.text(name)
        return None if text is None else check_secret(name, text)

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number in [low, high]."""
        text = self.text(name)
        return default if text is None else check_whole(name, text, low, high)

    def optional_whole(self, name: str, low: int, high: int) -> int | None:
        """Return a whole number in [low, high], None if unset."""
        text = self.text(name)
        return None if text is None else check_whole(name, text, low, high)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """Return a number in [low, high]."""
        text = self.text(name)
        return default if text is None else check_number(name, text, low, high)

    def url(self, name: str) -> str | None:
        """Return an http(s) address without its trailing slash."""
        text = self.text(name)
        return None if text is None else check_url(name, text)


def check_secret(name: str, text: str) -> str:
    """Return a key or token that can be sent in an HTTP header.

    Raises:
        ConfigError: A header cannot carry the value. The message names the setting, but not the
            value.
    """
    if text.isascii() and text.isprintable():
        return text
    raise ConfigError(f"{name} has characters that no HTTP header carries: expected visible ASCII")


def check_whole(name: str, text: str, low: int, high: int) -> int:
    """Return a whole number in [low, high].

    Raises:
        ConfigError: The value is not such a number. The message names the setting.
    """
    # int() also accepts digits of other scripts and 1_0, and fails on thousands of digits
    if re.fullmatch("0*[0-9]{1,9}", text) and low <= int(text.lstrip("0") or 0) <= high:
        return int(text.lstrip("0") or 0)
    raise wrong(name, text, f"a whole number from {low} to {high}")


def check_number(name: str, text: str, low: float, high: float) -> float:
    """Return a number in [low, high].

    Raises:
        ConfigError: The value is not such a number. The message names the setting.
    """
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        value = math.nan
    if low <= value <= high:  # false for nan
        return value
    raise wrong(name, text, f"a number from {low:g} to {high:g}")


def wrong(name: str, text: str, expected: str) -> ConfigError:
    """Return the error for a variable or option with an invalid value."""
    return ConfigError(f"{name}={text!r}: expected {expected}")


def check_url(name: str, text: str) -> str:
    """Return an http(s) address without its trailing slash.

    An address with a user, a password or a query is refused. The error does not contain such an
    address, because it may be a secret.

    Raises:
        ConfigError: The address is invalid. The message names the setting.
    """
    if fault := fault_of(text):
        raise ConfigError(f"{name} {fault}")
    example = "huggingface.co" if name == "HF_ENDPOINT" else "owner-space.hf.space"
    expected = f"an address such as https://{example}"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # an invalid port raises ValueError here
    except ValueError:
        raise wrong(name, text, expected) from None
    if parts.scheme not in ("http", "https") or not host or not text.isprintable():
        raise wrong(name, text, expected)
    return text.rstrip("/")
