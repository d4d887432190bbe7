"""The command `kronos-space`: deployment of this folder to the Hub. Not deployed itself."""
