# Run by `helm test`: check that the database and the Space are reachable.
import os
import sys

import requests

from tradingbot.errors import KronosError
from tradingbot.settings import Settings
from tradingbot.utils.db import database_url, init_db, redact


def database() -> str:
    url = database_url()
    if url.startswith("sqlite"):
        raise KronosError("no database is configured in the secret or in the values")
    init_db(url)
    return f"{redact(url)}: its schema is up to date"


def space() -> str:
    # A Space on the Hub is paused most of the day, so 503 is fine. Any other status but 200 means
    # that there is no Space at this address.
    address = Settings.from_env().space_url
    if address is None:
        raise KronosError("env.HF_SPACE_REPO and env.KRONOS_SPACE_URL are not set in the values")
    url = f"{address}/health"
    try:
        response = requests.get(url, timeout=60)
        health = response.json() if response.status_code == 200 else {}
    except requests.RequestException as error:
        raise KronosError(f"{url} cannot be reached: {type(error).__name__}") from error
    if health.get("status") == "ok":
        return f"{url}: {health['model']} is ready"
    if response.status_code == 503 and not os.environ.get("SPACE_IN_CLUSTER"):
        return f"{url} is asleep; kronosbot wakes it"
    raise KronosError(f"{url} answered {response.status_code}, but not as a Space does")


ok = True
for name, check in (("Database", database), ("Space", space)):
    try:
        print(f"{name:10}{check()}")
    except KronosError as error:
        ok = False
        print(f"{name:10}Error: {error}")
sys.exit(0 if ok else 1)
