"""The Kronos architecture as published: configurations, tokenizer and transformer."""
