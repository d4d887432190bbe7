"""What the tests share: servers at the network's edge, made-up records, commands as processes."""

from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the checkout
DATA = ROOT / "tests" / "data"
