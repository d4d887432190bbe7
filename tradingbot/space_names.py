"""How a Space's name on the Hub, OWNER/SPACE, and its address under hf.space belong together.

The Hub serves the Space Me/My_Space at https://me-my-space.hf.space: in small letters, with a dash
between owner and space and in place of every other sign.
"""

import re
import unicodedata
from urllib.parse import urlsplit

# The Space of the project's authors: what the chart names by default. To everybody else it is a
# stranger's, so no token and no key goes there unless HF_SPACE_REPO names it.
DEFAULT_SPACE = "guestros/kronos-trading-api"

_LONGEST_LABEL = 63  # of a host name; the Hub's address of a Space with a longer one is its secret


def subdomain_of(repo: str) -> str | None:
    """'Me/My_Space' -> 'me-my-space'; None where the Hub has to invent a shorter one."""
    label = re.sub(r"[^a-z0-9]", "-", repo.lower())
    return label if len(label) <= _LONGEST_LABEL else None


def subdomain_at(url: str) -> str | None:
    """'https://me-space.hf.space' -> 'me-space'; None for an address that is not under hf.space."""
    label, dot, domain = (urlsplit(url).hostname or "").rstrip(".").partition(".")
    return label if dot and f".{domain}".endswith(".hf.space") else None


def repo_at(url: str) -> str | None:
    """The name of the Space at this address; None where the address may be that of several.

    'https://me-space.hf.space' -> 'me/space', but 'https://my-own-space.hf.space' may be
    my/own-space or my-own/space.
    """
    label = subdomain_at(url) or ""
    if label == subdomain_of(DEFAULT_SPACE):
        return DEFAULT_SPACE
    owner, _, space = label.partition("-")
    return f"{owner}/{space}" if owner and space and "-" not in space else None


def contradict(url: str, repo: str) -> bool:
    """Whether this address is that of another Space than `repo`. Elsewhere than under hf.space
    any Space may be served."""
    there, named = subdomain_at(url), subdomain_of(repo)
    if there is None or named is None:
        return False
    return _squeezed(there) != _squeezed(named)


def fault_of(url: str) -> str | None:
    """What is wrong with an http(s) address, in words that do not repeat it; None if it is fine.

    An address is logged and shown, so it may hold no secret: neither user:password@ nor ?key=….
    """
    url = unicodedata.normalize("NFKC", url)  # as an HTTP client may do
    if "@" in url:
        return "has a user or a password in it (an @): an address is shown in logs; leave them out"
    if "?" in url or "#" in url:
        return "has a query or a fragment (? or #): an address is shown in logs; leave it out"
    return None


def _squeezed(label: str) -> str:
    return re.sub("-+", "-", label)
