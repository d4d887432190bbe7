"""The schema's history, run by `tradingbot.utils.db.init_db`."""
