"""The schema's history, run by `tradingbot.persistence.engine.init_db`."""
