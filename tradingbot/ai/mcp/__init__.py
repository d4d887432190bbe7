"""An MCP server for assistants: its tools, their results, and the transports."""
