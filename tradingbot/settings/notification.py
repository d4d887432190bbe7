"""The address to which the outcome of a run is sent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from tradingbot.environment import environment
from tradingbot.settings.variables import Environment, variable


@dataclass(frozen=True)
class Notification:
    """The notification setting.

    The address is a secret, because anyone who knows it can post there.
    """

    url: str | None = variable(
        "KRONOS_NOTIFY",
        None,
        "address to which the outcome of each run is posted: `https://…` of Slack, Telegram, "
        "ntfy or any webhook, or `slack://…`, `telegram://TOKEN/CHAT`, `ntfy://HOST/TOPIC`; "
        "never shown",
        shown="nowhere",
        repr=False,
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the setting. An empty variable counts as unset."""
        return cls(url=Environment(environment(environ)).text("KRONOS_NOTIFY"))
