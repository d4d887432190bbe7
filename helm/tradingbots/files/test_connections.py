# What `helm test` runs: are the database and the Space there?
import os
import sys

import requests

from tradingbot.errors import KronosError
from tradingbot.settings import Settings
from tradingbot.utils.db import database_url, init_db, redact


def database() -> str:
    url = database_url()
    if url.startswith("sqlite"):
        raise KronosError("no database is configured, neither in the secret nor in the values")
    init_db(url)
    return f"{redact(url)}: its schema is up to date"


def space() -> str:
    # One on the Hub is paused most of the day: 503 is its right to say, but any other answer than
    # its health means that there is no Space at this address.
    address = Settings.from_env().space_url
    if address is None:
        raise KronosError("env.HF_SPACE_REPO and env.KRONOS_SPACE_URL are not set in the values")
    url = f"{address}/health"
    try:
        answer = requests.get(url, timeout=60)
        health = answer.json() if answer.status_code == 200 else {}
    except requests.RequestException as error:
        raise KronosError(f"{url} cannot be reached: {type(error).__name__}") from error
    if health.get("status") == "ok":
        return f"{url}: {health['model']} is ready"
    if answer.status_code == 503 and not os.environ.get("SPACE_IN_CLUSTER"):
        return f"{url} sleeps; kronosbot wakes it"
    raise KronosError(f"{url} answered {answer.status_code}, but not as a Space does")


well = True
for name, check in (("Database", database), ("Space", space)):
    try:
        print(f"{name:10}{check()}")
    except KronosError as error:
        well = False
        print(f"{name:10}Error: {error}")
sys.exit(0 if well else 1)
