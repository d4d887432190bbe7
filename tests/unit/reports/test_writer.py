"""The report's file is replaced completely or left unchanged."""

from pathlib import Path

import pytest

from tradingbot.reports.writer import replaced_file


def test_writing_through_a_link_keeps_the_link_and_replaces_its_target(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    link = tmp_path / "report.html"
    link.symlink_to(tmp_path / "www" / "index.html")
    with replaced_file(link) as put:
        assert put("näw") == 4
    assert link.is_symlink()
    assert (tmp_path / "www" / "index.html").read_text(encoding="utf-8") == "näw"
    assert [file.name for file in (tmp_path / "www").iterdir()] == ["index.html"]


def test_a_failed_report_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replaced_file(tmp_path / "report.html"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
