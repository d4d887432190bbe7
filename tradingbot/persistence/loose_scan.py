"""Find the distinct keys of a large table without reading all rows."""

from sqlalchemy import TextClause, text

# Finds each next key with one lookup in the primary key's index. DISTINCT would read every row.
_LOOSE_SCAN = """
    WITH RECURSIVE keys AS (
      (SELECT symbol, interval, model_name FROM {table} ORDER BY 1, 2, 3 LIMIT 1)
      UNION ALL
      SELECT following.* FROM keys, LATERAL (
        SELECT symbol, interval, model_name FROM {table}
        WHERE (symbol, interval, model_name) > (keys.symbol, keys.interval, keys.model_name)
        ORDER BY 1, 2, 3 LIMIT 1
      ) following
    )
"""


def for_each_key(table: str, query: str) -> TextClause:
    """Return a Postgres statement that runs `query` with a table `keys` of the distinct keys.

    `keys` has the columns symbol, interval and model_name. These must be the first columns of the
    primary key of `table`.
    """
    return text(_LOOSE_SCAN.format(table=table) + query)
