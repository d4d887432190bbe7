"""Notification services: find the service of an address and build the request body for it.

    https://hooks.slack.com/services/…     Slack; slack://HOST/PATH for compatible services
                                           (Mattermost, Rocket.Chat, Discord's …/slack)
    telegram://TOKEN/CHAT                  Telegram, or its https://api.telegram.org/bot… ?chat_id=…
    https://ntfy.sh/TOPIC                  ntfy; ntfy://HOST/TOPIC for your own server
    https://anything/else                  a webhook: the message as one JSON document

slack+http://, telegram+http:// and ntfy+http:// send without TLS, for services inside a cluster.

The library apprise supports a hundred more services. It is not used, because it would add libraries
for OAuth, YAML and Markdown to a process that holds the Hub's token. To reach those services, post
to the webhook of an apprise server.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from tradingbot.errors import ConfigError

EXPECTED = (
    "KRONOS_NOTIFY cannot be used (its value is a secret and is not shown): expected https://… of "
    "Slack, ntfy or a webhook, slack://HOST/PATH, telegram://TOKEN/CHAT or ntfy://HOST/TOPIC"
)
HOSTS = {
    "hooks.slack.com": "slack",
    "hooks.slack-gov.com": "slack",
    "api.telegram.org": "telegram",
    "ntfy.sh": "ntfy",
}


@dataclass(frozen=True)
class Message:
    """A message: a headline, further lines, and the same content as a JSON document."""

    title: str
    lines: tuple[str, ...] = ()
    good: bool = True
    document: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "\n".join([self.title, *self.lines])


@dataclass(frozen=True)
class Target:
    """Where to post a message, and how to build the body. `repr` hides the address and login."""

    service: str  # slack, telegram, ntfy or webhook
    url: str = field(repr=False)
    body: Callable[[Message], dict[str, Any]] = field(repr=False)
    login: tuple[str, str] | None = field(default=None, repr=False)


def target_of(text: str) -> Target:
    """Return the target that KRONOS_NOTIFY names.

    Raises:
        ConfigError: `text` is not a valid target. The message does not contain it.
    """
    if not text.isprintable() or " " in text or "\\" in text:
        raise ConfigError(EXPECTED)
    try:
        parts = urlsplit(text)
        scheme, _, transport = parts.scheme.partition("+")
        service = scheme if scheme in _MAKERS else ""
        if scheme in ("http", "https") and not transport:
            service, transport = HOSTS.get(parts.hostname or "", "webhook"), scheme
        if not service or transport not in ("", "http", "https"):
            raise ValueError("an unknown scheme")
        login, at, host = parts.netloc.rpartition("@")
        parts = parts._replace(scheme=transport, netloc=host, fragment="")
        url, body = _MAKERS[service](parts)
        target = urlsplit(url)
        if not target.hostname or target.port == 0:
            raise ValueError("no host")
    except ValueError:
        raise ConfigError(EXPECTED) from None
    user, _, password = login.partition(":")
    return Target(service, url, body, (unquote(user), unquote(password)) if at else None)


Endpoint = tuple[str, Callable[[Message], dict[str, Any]]]


def _webhook(parts: SplitResult) -> Endpoint:
    def body(message: Message) -> dict[str, Any]:
        return {"text": message.text, **message.document}

    return parts.geturl(), body


def _slack(parts: SplitResult) -> Endpoint:
    def body(message: Message) -> dict[str, Any]:
        text = message.text
        for sign, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(sign, name)
        return {"text": text}

    if not parts.netloc:
        raise ValueError("no host")
    if not parts.scheme and "." not in parts.netloc and ":" not in parts.netloc:
        parts = parts._replace(  # slack://T…/B…/… has only the three parts of a webhook
            netloc="hooks.slack.com", path=f"/services/{parts.netloc}{parts.path}"
        )
    return parts._replace(scheme=parts.scheme or "https").geturl(), body


def _telegram(parts: SplitResult) -> Endpoint:
    options = dict(parse_qsl(parts.query))
    if parts.scheme:
        path = parts.path.removesuffix("/").removesuffix("/sendMessage")
        url = parts._replace(path=f"{path}/sendMessage", query="").geturl()
    else:  # telegram://TOKEN/CHAT
        options["chat_id"] = unquote(parts.path.strip("/"))
        url = f"https://api.telegram.org/bot{parts.netloc}/sendMessage"
    if not options.get("chat_id"):
        raise ValueError("no chat")

    def body(message: Message) -> dict[str, Any]:  # no parse_mode, so Telegram interprets no markup
        return {**options, "text": message.text, "link_preview_options": {"is_disabled": True}}

    return url, body


def _ntfy(parts: SplitResult) -> Endpoint:
    folder, _, topic = parts.path.rstrip("/").rpartition("/")
    if not topic and not parts.scheme:  # ntfy://TOPIC
        parts, topic = parts._replace(netloc="ntfy.sh"), parts.netloc
    if not topic:
        raise ValueError("no topic")
    topic = unquote(topic)

    # sent as JSON, because HTTP headers cannot carry every title
    def body(message: Message) -> dict[str, Any]:
        return {
            "topic": topic,
            "title": message.title,
            "message": "\n".join(message.lines) or message.title,
            "priority": 3 if message.good else 4,
            "tags": ["white_check_mark" if message.good else "warning"],
        }

    scheme = parts.scheme or "https"
    return parts._replace(scheme=scheme, path=f"{folder}/").geturl(), body


_MAKERS: dict[str, Callable[[SplitResult], Endpoint]] = {
    "webhook": _webhook,
    "slack": _slack,
    "telegram": _telegram,
    "ntfy": _ntfy,
}
