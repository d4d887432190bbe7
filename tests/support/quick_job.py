"""`python -m tradingbot.kronosbot` for somebody in a hurry: patience in tenths of seconds.

Nothing else differs: the same command line, settings, output and exit codes. A constant that is no
longer there is an error, so that none of them goes back to minutes unnoticed.
"""

from typing import Any

from tradingbot.kronosbot import main
from tradingbot.runtime.signals import exit_on_signals


def _hurry() -> None:
    from tradingbot.runtime import retry as retrying

    _set(retrying, PATIENCE=6.0, BACKOFF=0.05)
    from tradingbot import client as kronos_client
    from tradingbot.jobs import nightly
    from tradingbot.persistence import engine as db
    from tradingbot.persistence import schema
    from tradingbot.persistence import wait_callback as db_wait
    from tradingbot.space import hub as hf_space
    from tradingbot.space import transport as space_http

    _set(hf_space, HUB_TIMEOUT=1.0, CONNECT_TIMEOUT=1.0, STALE_AFTER=1.5)
    _set(hf_space, PAUSE_VERIFY=0.5, PAUSE_PATIENCE=8.0, PAUSE_PATIENCE_STOPPED=3.0)
    _set_defaults(hf_space.HubSpace.__init__, backoff=0.05)
    _set(space_http, CONNECT_TIMEOUT=2.0, HEALTH_TIMEOUT=1.5, BACKOFF=0.05, LONGEST_RETRY_AFTER=0.2)
    _set(kronos_client, BATCH_SERIES=4)
    _set_defaults(kronos_client.KronosClient.__init__, timeout=4.0)
    _set(nightly, LOCK_WAIT=5.0, LOCK_POLL=0.05)
    _set(db, LOCK_TIMEOUT=5)
    _set(schema, LOCK_TIMEOUT=5)
    _set(db_wait, PATIENCE=10.0, PATIENCE_CONNECTING=2.0, PATIENCE_STOPPED=0.5, TICK=0.1)
    db.KEEPALIVES["connect_timeout"] = 2


def _set(module: Any, **constants: float) -> None:
    for name, value in constants.items():
        assert hasattr(module, name), f"{module.__name__} has no {name}"
        setattr(module, name, value)


def _set_defaults(function: Any, **arguments: float) -> None:
    for name, value in arguments.items():
        assert name in function.__kwdefaults__, f"{function.__qualname__} has no {name}"
        function.__kwdefaults__[name] = value


if __name__ == "__main__":
    exit_on_signals()
    _hurry()
    main()
