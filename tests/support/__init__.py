"""Helpers shared by the tests: servers that stand in for the network, made-up data, processes."""

from pathlib import Path

ROOT = Path(__file__).parents[2]  # the root of the checkout
DATA = ROOT / "tests" / "data"
