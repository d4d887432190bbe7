"""The LLM agent loop, its chat model and its tools."""
