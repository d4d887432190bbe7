"""The database: models, engine, schema, locks, repositories of forecasts and runs."""
