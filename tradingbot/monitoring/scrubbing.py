"""Remove the secrets of this process from texts that are sent to other services."""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

HIDDEN = "***"
# Names of variables whose whole value is a secret, and patterns of secrets inside any text.
_NAMED = re.compile(
    r"(password|passwd|passphrase|secret|token|credentials?|key|dsn|_pass|_pwd|_auth|notify|ur[il])$",
    re.IGNORECASE,
)
_ADDRESSES = re.compile(r"ur[il]$", re.IGNORECASE)
_LOGIN = re.compile(r"(?<=://)[^/@\s]+(?=@)")
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}")
# Shorter secrets also occur in ordinary text. Replacing them there by *** would reveal the secret.
MIN_LENGTH = 4


def scrubbed(text: str, environ: Mapping[str, str]) -> str:
    """Replace each secret in `environ`, and each login in a URL, by ***."""
    for secret in sorted(set(_secrets(environ)), key=len, reverse=True):
        if len(secret) >= MIN_LENGTH:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    return _HUB_TOKEN.sub(HIDDEN, _LOGIN.sub(HIDDEN, text))


def _secrets(environ: Mapping[str, str]) -> Iterator[str]:
    for name, value in environ.items():
        value = value.strip()
        if "://" in value:
            yield from _within(value, is_secret=name.upper().endswith("NOTIFY"))
        elif _NAMED.search(name) and not _ADDRESSES.search(name):
            yield value


def _within(url: str, *, is_secret: bool) -> Iterator[str]:
    """Yield the password of a URL, if it has one.

    If the URL itself is a secret, also yield the URL, its host with login and port, each part of
    its path and each value of its query.
    """
    try:
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
    except ValueError:
        yield url
        return
    if at:
        password = login.partition(":")[2]
        yield from (password, unquote(password))
    if is_secret:
        path = parts.path.strip("/").split("/")
        values = [pair.partition("=")[2] for pair in parts.query.split("&")]
        yield from (url, parts.netloc, *path, *values)
