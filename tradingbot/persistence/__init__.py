"""The database: models, engine, schema, locks, and repositories of forecasts and runs."""
