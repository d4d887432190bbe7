# `helm test`: the database can be reached, and holds the schema or takes it.
import sys

from tradingbot.utils.db import database_url, init_db, redact
from tradingbot.utils.errors import KronosError

try:
    url = database_url()
    if url.startswith("sqlite"):
        sys.exit("no database is configured: neither in the secret nor in the values")
    init_db(url)
except KronosError as error:
    sys.exit(f"Error: {error}")
print(f"database {redact(url)}: its schema is up to date")
