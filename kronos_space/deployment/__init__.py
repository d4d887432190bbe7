"""Deployment of this folder to the Hub, and the command `kronos-space`; not deployed itself."""
