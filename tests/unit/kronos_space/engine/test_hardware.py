"""Threads follow what the container may use, and the products' type what the CPU can do."""

import platform
import resource
from pathlib import Path

import pytest
import torch

from kronos_space.engine import engine as module
from kronos_space.engine.engine import Engine
from kronos_space.engine.hardware import fast_dtype, keep_freed_memory, usable_cpus
from kronos_space.weights.checkpoint import load_checkpoint
from tests.support.checkpoints import NANO


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("max 100000", 8)],
)
def test_a_containers_quota_bounds_the_cpus(tmp_path: Path, cpu_max: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(cpu_max)

    assert usable_cpus(tmp_path) == expected


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize(("quota", "expected"), [("300000", 3), ("-1", 8)])
def test_the_quota_of_cgroup_v1_is_read_from_two_files(
    tmp_path: Path, quota: str, expected: int
) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")

    assert usable_cpus(tmp_path) == expected


@pytest.mark.usefixtures("eight_cpus")
def test_without_a_quota_the_affinity_decides(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path) == 8


def test_the_engine_uses_all_allowed_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(module, "usable_cpus", lambda: 1)
    try:
        Engine(load_checkpoint(str(NANO)))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize("close_enough", [True, False])
def test_auto_selects_the_cpus_fastest_dtype_only_if_it_is_close_enough(
    monkeypatch: pytest.MonkeyPatch, dtype: str, close_enough: bool
) -> None:
    monkeypatch.setattr(module, "fast_dtype", lambda: dtype)
    if not close_enough:
        monkeypatch.setattr(module, "CLOSE_ENOUGH", 0.0)

    engine = Engine(load_checkpoint(str(NANO)), dtype="auto")

    assert engine.dtype == (dtype if close_enough else "float32")


@pytest.mark.parametrize(
    ("features", "dtype"),
    [
        ({}, None),
        ({"avx512_vnni": True}, "int8"),
        ({"avx_vnni": True}, "int8"),
        ({"avx512_vnni": True, "avx512_bf16": True}, "bfloat16"),
        ({"avx512_vnni": True, "avx512_bf16": False, "amx_bf16": True}, "bfloat16"),
    ],
)
def test_the_fastest_dtype_follows_from_the_cpus_instructions(
    monkeypatch: pytest.MonkeyPatch, features: dict[str, bool], dtype: str | None
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)

    assert fast_dtype() == dtype


def test_an_unknown_dtype_is_named() -> None:
    with pytest.raises(ValueError, match=r"dtype='float16': expected one of float32, bfloat16"):
        Engine(load_checkpoint(str(NANO)), dtype="float16")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_freed_buffer_is_reused_without_a_system_call() -> None:
    def page_faults() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    keep_freed_memory()
    torch.ones(5_000_000)
    before = page_faults()
    torch.ones(2_000_000)  # 8 MB are about 2000 pages
    assert page_faults() - before < 500
