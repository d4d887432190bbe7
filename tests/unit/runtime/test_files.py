"""Files are replaced as a whole, or the command says in one line why not."""

from pathlib import Path

import pytest

from tradingbot.errors import ConfigError
from tradingbot.runtime.files import replaced


def test_a_file_with_the_longest_possible_name_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / ("x" * 255)
    for text in ("first", "second"):
        with replaced(out) as temporary:
            temporary.write_text(text)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(out.name, "second")]


@pytest.mark.parametrize("name", ["x" * 256, "loop", "loop/x", "file/x", "no/x", "\udcff" * 300])
def test_a_name_that_cannot_be_written_is_one_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match=r"cannot be written: [A-Z]"),
        replaced(tmp_path / name) as temporary,
    ):
        temporary.write_text("never")
