"""The address and credentials of a Space, and the time-outs of requests to it."""

from dataclasses import dataclass, field
from typing import Self

from tradingbot.errors import ConfigError
from tradingbot.settings import Settings, Timeouts, check_recipient, default_timeouts


@dataclass(frozen=True)
class SpaceAddress:
    """The address of a Space, with credentials and time-outs.

    Attributes:
        url: Its URL, without a trailing slash.
        api_key: Its API key.
        hf_token: A Hub token; sent only to the private Space `hf_space_repo` under hf.space.
        hf_space_repo: Its name on the Hub.
        timeout: Seconds for the response to one batch, by default `timeouts.space_answer`.
        timeouts: All other limits, by default those of the process.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    hf_token: str | None = field(default=None, repr=False)
    hf_space_repo: str = ""
    timeout: float | None = None
    timeouts: Timeouts = field(default_factory=default_timeouts)

    @classmethod
    def of(cls, settings: Settings, *, timeout: float | None = None) -> Self:
        """Return the address of the Space in `settings`.

        Raises:
            ConfigError: There is no address, or an API key is set for the unnamed default Space.
        """
        if settings.space_url is None:
            raise ConfigError(
                "KRONOS_SPACE_URL is not set: give the Space's address "
                "(https://owner-space.hf.space), or start one here with 'make serve'"
            )
        check_recipient(settings, "KRONOS_API_KEY")
        return cls(
            url=settings.space_url,
            api_key=settings.api_key,
            hf_token=None if settings.uses_default_space else settings.hf_token,
            hf_space_repo=settings.hf_space_repo,
            timeout=timeout,
            timeouts=settings.timeouts,
        )

    @property
    def answer_timeout(self) -> float:
        """Return the seconds for the response to one batch."""
        return self.timeouts.space_answer if self.timeout is None else self.timeout

    def headers(self, *, with_token: bool = False) -> dict[str, str]:
        """Return the headers with the credentials."""
        key = {"X-API-Key": self.api_key} if self.api_key else {}
        return {**key, "Authorization": f"Bearer {self.hf_token}"} if with_token else key
