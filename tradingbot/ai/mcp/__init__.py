"""An MCP server for assistants: its tools, what they answer, and how it is served."""
