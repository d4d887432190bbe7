"""Checkpoints of fine-tuning: a folder that a Space loads, its model card, and its promotion."""

import json
import resource
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
import torch

from kronos_space.finetune.card import MINUS
from kronos_space.finetune.checkpoint import (
    add_verdict,
    name_of,
    promote,
    read_about,
    symbols_hash,
    write_checkpoint,
)
from kronos_space.finetune.errors import FinetuneError
from kronos_space.finetune.verdict import in_words
from kronos_space.weights.checkpoint import load_checkpoint
from tests.support.finetuning import ABOUT, GOOD, POOR, tiny_model
from tradingbot.evaluation.training_cutoff import in_training, trained_until
from tradingbot.walk_forward.comparison import Comparison, Gain

MODEL, TOKENIZER = tiny_model()
BEHIND = replace(GOOD, over_walk=Gain(-0.03, -0.04, -0.01))


def written(folder: Path, compared: Comparison | None = None) -> Path:
    write_checkpoint(folder, MODEL, TOKENIZER, ABOUT)
    if compared is not None:
        add_verdict(folder, in_words(compared, "kronos-nano"))
    return folder


def test_a_space_loads_a_written_checkpoint_with_the_same_weights(tmp_path: Path) -> None:
    loaded = load_checkpoint(str(written(tmp_path / "tuned")))
    assert loaded.name == "kronos-nano+2019-06-28"
    for name, weight in MODEL.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], weight)


def test_the_name_tells_the_job_which_days_the_model_has_seen() -> None:
    name = name_of("NeoQuasar/Kronos-mini", "2025-06-30")
    assert name == "Kronos-mini+2025-06-30"
    assert in_training(name, "SPY", datetime(2025, 6, 30)) == "yes"
    # the tickers of that base are unknown
    assert in_training(name, "SPY", datetime(2025, 7, 1)) == "unknown"
    # its base saw these days
    assert in_training("kronos-nano+2012-01-02", "SPY", datetime(2013, 1, 2)) == "yes"
    assert in_training("kronos-nano+2019-06-28", "SPY", datetime(2019, 7, 1)) == "no"
    assert "fine-tuned on candles up to 2019-06-28; kronos-nano:" in trained_until(
        "kronos-nano+2019-06-28"
    )


def test_a_model_with_a_similar_name_is_unknown() -> None:
    assert in_training("my+model", "SPY", datetime(2025, 6, 30)) == "unknown"


@pytest.mark.parametrize(
    ("compared", "sentence"),
    [
        (GOOD, "better than kronos-nano by 2.1 % (0.4 to 3.9), in the combined forecast by 0.3 % "
               "(~0.1 to 0.7)"),
        (POOR, "not better than kronos-nano: 0.4 % (~0.2 to 1.2), in the combined forecast 0.3 %"),
        (BEHIND, "ahead of kronos-nano by 2.1 % (0.4 to 3.9), but not better to serve: over a "
                 "random walk ~3.0 % (~4.0 to ~1.0), in the combined forecast 0.3 %"),
        (replace(GOOD, gain=Gain(0.1, None, None)), "not better than kronos-nano: 10.0 % (too few"),
    ],
)  # fmt: skip
def test_the_verdict_is_one_sentence(compared: Comparison, sentence: str) -> None:
    message = in_words(compared, "kronos-nano")["sentence"]
    assert message.replace(MINUS, "~").startswith(sentence)


def test_a_model_is_better_only_if_it_significantly_beats_the_walk_or_helps_the_combination() -> (
    None
):
    level = replace(GOOD, over_walk=Gain(0.027, -0.014, 0.07))  # white noise can give this interval
    helps = replace(BEHIND, combined=Gain(0.002, 0.001, 0.003))
    harms_less = replace(helps, combined_over_walk=Gain(-0.001, -0.004, 0.002))
    found = [in_words(item, "x")["better"] for item in (GOOD, level, BEHIND, helps, harms_less)]
    assert found == [True, False, False, True, False]


def test_the_card_is_written_from_the_facts(tmp_path: Path) -> None:
    card = (written(tmp_path / "tuned", GOOD) / "README.md").read_text()
    for fact in ("# kronos-nano+2019-06-28", "by 2.1 % (0.4 to 3.9)", "5,000 forecasts",
                 "ABC, XYZ", "2018-12-28", "| 80 % | 79.0% | 70.0% |", "seed 0"):  # fmt: skip
        assert fact in card


def test_a_checkpoint_that_is_not_better_needs_force_to_be_promoted(tmp_path: Path) -> None:
    tuned, target = written(tmp_path / "tuned", POOR), tmp_path / "served"
    with pytest.raises(FinetuneError, match=r"not better than kronos-nano.*--force"):
        promote(tuned, target, force=False)
    assert not target.exists()
    promote(tuned, target, force=True)
    assert load_checkpoint(str(target)).name == "kronos-nano+2019-06-28"


def test_a_promotion_keeps_the_previously_served_model(tmp_path: Path) -> None:
    tuned, target = written(tmp_path / "tuned", GOOD), tmp_path / "served"
    for _ in range(2):
        promote(tuned, target, force=False)
    assert read_about(tmp_path / "served.old") == read_about(target) == read_about(tuned)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["served", "served.old", "tuned"]


def test_a_checkpoint_without_a_verdict_is_not_promoted(tmp_path: Path) -> None:
    with pytest.raises(FinetuneError, match="it has no verdict"):
        promote(written(tmp_path / "tuned"), tmp_path / "served", force=False)


def test_a_damaged_checkpoint_is_not_promoted(tmp_path: Path) -> None:
    tuned = written(tmp_path / "tuned", GOOD)
    (tuned / "tokenizer" / "model.safetensors").write_bytes(b"half")
    with pytest.raises(FinetuneError, match="damaged"):
        promote(tuned, tmp_path / "served", force=False)
    assert not (tmp_path / "served").exists()


@pytest.mark.parametrize("inside", [".", "served"])
def test_a_checkpoint_is_not_promoted_into_itself(tmp_path: Path, inside: str) -> None:
    tuned = written(tmp_path / "tuned", GOOD)
    with pytest.raises(FinetuneError, match="expected a folder outside"):
        promote(tuned, tuned / inside, force=False)
    assert load_checkpoint(str(tuned)).name == "kronos-nano+2019-06-28"


def test_a_promotion_to_a_full_disk_keeps_the_served_model(tmp_path: Path) -> None:
    tuned, target = written(tmp_path / "tuned", GOOD), tmp_path / "served"
    target.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, limits[1]))
    try:
        with pytest.raises(FinetuneError, match=r"cannot be written: .*File too large"):
            promote(tuned, target, force=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["served", "tuned"]


@pytest.mark.parametrize("about", [None, "not JSON", "[1]", '{"name": "x", "max_context": 64}'])
def test_promoting_a_folder_that_is_not_a_checkpoint_is_a_one_line_error(
    tmp_path: Path, about: str | None
) -> None:
    if about is not None:
        (tmp_path / "kronos.json").write_text(about)
    with pytest.raises(FinetuneError, match=str(tmp_path)):
        promote(tmp_path, tmp_path / "served", force=True)


def test_a_full_disk_leaves_no_partial_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(TOKENIZER), "save_pretrained", full)
    with pytest.raises(FinetuneError, match="cannot be written: No space left on device"):
        written(tmp_path / "tuned")
    assert list(tmp_path.iterdir()) == []


def test_the_hash_of_tickers_ignores_their_order() -> None:
    assert symbols_hash(["B", "A"]) == symbols_hash(["A", "B"]) != symbols_hash(["A"])
    assert json.dumps(symbols_hash(["A"]))
