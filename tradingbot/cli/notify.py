"""`kronosbot notify --test`: whether notifications arrive."""

from typing import Annotated

import typer

from tradingbot.cli.output import fail
from tradingbot.errors import ConfigError, KronosError


def notify(
    test: Annotated[
        bool, typer.Option("--test", help="Send a message that says it is a test.")
    ] = False,
) -> None:
    """Send a test message to where the outcomes of runs are posted, KRONOS_NOTIFY.

    That is the address of a webhook, or of a service in a shape of its own:
    https://hooks.slack.com/services/..., telegram://TOKEN/CHAT, https://ntfy.sh/TOPIC, or any other
    https address, which is sent one JSON document.

    Exit codes: 0 the service took it; 1 it did not; 2 KRONOS_NOTIFY is wrong or not set.

    Try it: kronosbot notify --test
    """
    from tradingbot.monitoring.notification import configured_target, sample_message, send
    from tradingbot.settings import default_timeouts

    try:
        if not test:
            raise ConfigError("nothing to send: say --test for a message that says it is a test")
        target = configured_target()
        if target is None:
            raise ConfigError(
                "KRONOS_NOTIFY is not set: where shall the message go? Such as https://ntfy.sh/TOPIC"
            )
        send(target, sample_message(), default_timeouts())
    except KronosError as error:
        fail(error)
    typer.echo(f"Sent to the {target.service} of KRONOS_NOTIFY: look there")
