"""`kronosbot notify --test`: check that notifications arrive."""

from typing import Annotated

import typer

from tradingbot.cli.output import fail
from tradingbot.errors import ConfigError, KronosError


def notify(
    test: Annotated[bool, typer.Option("--test", help="Send a test message.")] = False,
) -> None:
    """Send a test message to KRONOS_NOTIFY, where the outcomes of runs are posted.

    KRONOS_NOTIFY is the address of a supported service or of a webhook:
    https://hooks.slack.com/services/..., telegram://TOKEN/CHAT, https://ntfy.sh/TOPIC, or any other
    https address, to which a JSON document is posted.

    Exit codes: 0 the service accepted it; 1 it did not; 2 KRONOS_NOTIFY is wrong or not set.

    Try it: kronosbot notify --test
    """
    from tradingbot.monitoring.notification import configured_target, sample_message, send
    from tradingbot.settings import default_timeouts

    try:
        if not test:
            raise ConfigError("nothing to send: give --test to send a test message")
        target = configured_target()
        if target is None:
            raise ConfigError(
                "KRONOS_NOTIFY is not set: expected an address such as https://ntfy.sh/TOPIC"
            )
        send(target, sample_message(), default_timeouts())
    except KronosError as error:
        fail(error)
    typer.echo(f"Sent to the {target.service} of KRONOS_NOTIFY: check that it arrived")
