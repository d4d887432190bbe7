"""Conversion between a Space's name on the Hub, OWNER/SPACE, and its address under hf.space.

The Hub serves the Space Me/My_Space at https://me-my-space.hf.space. The address is in lower case.
A dash separates owner and space, and replaces every character that is not a letter or a digit.
"""

import re
import unicodedata
from urllib.parse import urlsplit

# The Space of the project's authors, the default of the chart. No token and no key is sent to it
# unless HF_SPACE_REPO names it, because for other users it is someone else's Space.
DEFAULT_SPACE = "guestros/kronos-trading-api"

_MAX_LABEL = 63  # of a host name; the Hub shortens a longer one in a way that cannot be derived


def subdomain_of(repo: str) -> str | None:
    """Return the subdomain: 'Me/My_Space' -> 'me-my-space'; None if the Hub has to shorten it."""
    label = re.sub(r"[^a-z0-9]", "-", repo.lower())
    return label if len(label) <= _MAX_LABEL else None


def subdomain_at(url: str) -> str | None:
    """Return the subdomain under hf.space: 'https://me-space.hf.space' -> 'me-space'."""
    label, dot, domain = (urlsplit(url).hostname or "").rstrip(".").partition(".")
    return label if dot and f".{domain}".endswith(".hf.space") else None


def repo_at(url: str) -> str | None:
    """Return the name of the Space at this address, or None if it is ambiguous.

    'https://me-space.hf.space' -> 'me/space', but 'https://my-own-space.hf.space' may be
    my/own-space or my-own/space.
    """
    label = subdomain_at(url) or ""
    if label == subdomain_of(DEFAULT_SPACE):
        return DEFAULT_SPACE
    owner, _, space = label.partition("-")
    return f"{owner}/{space}" if owner and space and "-" not in space else None


def contradict(url: str, repo: str) -> bool:
    """Return whether this address belongs to a Space other than `repo`.

    Addresses outside hf.space may belong to any Space.
    """
    actual, expected = subdomain_at(url), subdomain_of(repo)
    if actual is None or expected is None:
        return False
    return _single_dashes(actual) != _single_dashes(expected)


def fault_of(url: str) -> str | None:
    """Return what is wrong with an http(s) address, without repeating it, or None.

    An address is logged and shown, so it may contain no secret: no user:password@ and no ?key=….
    """
    url = unicodedata.normalize("NFKC", url)  # as an HTTP client may do
    if "@" in url:
        return "has a user or a password in it (an @): an address is shown in logs; leave them out"
    if "?" in url or "#" in url:
        return "has a query or a fragment (? or #): an address is shown in logs; leave it out"
    return None


def _single_dashes(label: str) -> str:
    return re.sub("-+", "-", label)
