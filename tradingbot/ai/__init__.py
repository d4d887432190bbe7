"""LLM agent loop, its chat model and the tools it may call."""
