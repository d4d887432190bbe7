"""The migrations of the schema, run by `tradingbot.persistence.engine.init_db`."""
