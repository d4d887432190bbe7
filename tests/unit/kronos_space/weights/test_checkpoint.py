"""Checkpoints load unchanged, save unchanged, and fail with one clear line."""

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kronos_space.model.config import KronosConfig, KronosTokenizerConfig
from kronos_space.model.pretrained import DISPENSABLE
from kronos_space.model.tokenizer import KronosTokenizer
from kronos_space.model.transformer import Kronos
from kronos_space.weights import checkpoint as module
from kronos_space.weights.catalogue import BUNDLED_FILES, CATALOGUE
from kronos_space.weights.checkpoint import CheckpointError, load_checkpoint
from kronos_space.weights.download import check_config
from tests.support.checkpoints import NANO, PUBLISHED_MODELS, published_shape, write_checkpoint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the bundled checkpoint for tests that damage it."""
    return Path(shutil.copytree(NANO, tmp_path / "checkpoint"))


def edit_tensors(path: Path, **changes: torch.Tensor | None) -> None:
    tensors = load_file(path)
    for name, value in changes.items():
        if value is None:
            del tensors[name]
        else:
            tensors[name] = value
    save_file(tensors, path)


def test_the_bundled_checkpoint_states_its_name_context_and_weights() -> None:
    checkpoint = load_checkpoint("kronos-nano")

    assert (checkpoint.name, checkpoint.max_context) == ("kronos-nano", 256)
    assert (
        checkpoint.revision == "sha256:" + module.sha256_of(NANO / "model/model.safetensors")[:16]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED_MODELS)
def test_every_published_shape_loads_and_saves_the_same_tensors(name: str, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "published", name)

    checkpoint = load_checkpoint(str(folder))

    for component, loaded in (("model", checkpoint.model), ("tokenizer", checkpoint.tokenizer)):
        loaded.save_pretrained(tmp_path / component)
        before = load_file(folder / component / "model.safetensors")
        after = load_file(tmp_path / component / "model.safetensors")
        assert before.keys() == after.keys()
        assert all(torch.equal(before[tensor], after[tensor]) for tensor in before)


def test_buffers_and_training_parameters_may_be_missing(folder: Path) -> None:
    """Their values follow from the shapes, so a checkpoint may lack them."""
    complete = load_checkpoint(str(folder))
    for component in ("model", "tokenizer"):
        path = folder / component / "model.safetensors"
        tensors = load_file(path)
        kept = {k: v for k, v in tensors.items() if not any(d in k for d in DISPENSABLE)}
        assert len(kept) < len(tensors)
        save_file(kept, path)

    sparse = load_checkpoint(str(folder))

    assert torch.equal(
        sparse.model.transformer[0].self_attn.rotary.inv_freq,
        complete.model.transformer[0].self_attn.rotary.inv_freq,
    )
    assert torch.equal(
        sparse.tokenizer.state_dict()["tokenizer.bsq.basis"],
        complete.tokenizer.state_dict()["tokenizer.bsq.basis"],
    )


def test_the_error_for_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match=r"'kronos-huge': neither .* kronos-mini"):
        load_checkpoint("kronos-huge")


@pytest.mark.parametrize(
    "file", ["kronos.json", "model/model.safetensors", "tokenizer/config.json"]
)
def test_a_file_missing_from_the_folder_is_named(folder: Path, file: str) -> None:
    (folder / file).unlink()

    with pytest.raises(CheckpointError, match=f"no file {file}; a checkpoint folder holds"):
        load_checkpoint(str(folder))


def test_a_description_without_a_context_is_refused(folder: Path) -> None:
    (folder / "kronos.json").write_text('{"name": "mine"}')

    with pytest.raises(CheckpointError, match=r"kronos.json: expected name and max_context"):
        load_checkpoint(str(folder))


def test_a_truncated_file_is_reported(folder: Path) -> None:
    path = folder / "model" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100_000])

    with pytest.raises(CheckpointError, match="model: not a checkpoint of Kronos, or damaged"):
        load_checkpoint(str(folder))


def test_a_missing_tensor_is_named(folder: Path) -> None:
    edit_tensors(folder / "model" / "model.safetensors", **{"norm.weight": None})

    with pytest.raises(CheckpointError, match=r"lacks tensors norm.weight; it is not a checkpoint"):
        load_checkpoint(str(folder))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_weights_saved_in_another_type_are_loaded_as_float32(
    folder: Path, dtype: torch.dtype
) -> None:
    path = folder / "model" / "model.safetensors"
    save_file({name: value.to(dtype) for name, value in load_file(path).items()}, path)

    model = load_checkpoint(str(folder)).model

    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_an_unknown_tensor_is_named(folder: Path) -> None:
    edit_tensors(folder / "tokenizer" / "model.safetensors", extra=torch.ones(1))

    with pytest.raises(CheckpointError, match="has unknown tensors extra"):
        load_checkpoint(str(folder))


def test_a_tensor_of_another_shape_is_refused(folder: Path) -> None:
    edit_tensors(folder / "model" / "model.safetensors", **{"norm.weight": torch.ones(64)})

    with pytest.raises(CheckpointError, match="model: not a checkpoint of Kronos, or damaged"):
        load_checkpoint(str(folder))


def test_a_tokenizer_of_other_widths_is_refused(folder: Path, tmp_path: Path) -> None:
    published = write_checkpoint(tmp_path / "published")
    shutil.rmtree(folder / "tokenizer")
    shutil.copytree(published / "tokenizer", folder / "tokenizer")

    with pytest.raises(CheckpointError, match=r"tokenizer's bits \(10, 10\) are not .* \(8, 8\)"):
        load_checkpoint(str(folder))


def test_a_published_model_refuses_another_published_models_tokenizer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini, base = CATALOGUE["kronos-mini"], CATALOGUE["kronos-base"]
    checksums = {"model": mini.model_sha256, "tokenizer": base.tokenizer_sha256}
    monkeypatch.setattr(module, "sha256_of", lambda path: checksums[path.parent.name])

    with pytest.raises(
        CheckpointError, match=r"Kronos-mini goes with .*Tokenizer-2k, not with .*Tokenizer-base"
    ):
        load_checkpoint(str(folder))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_heads": 5}, "d_model=128 is not a multiple of n_heads=5"),
        ({"n_heads": 0}, "n_heads=0: expected at least 1"),
        ({"n_layers": -1}, "n_layers=-1: expected at least 1"),
        ({"n_heads": 4.0}, "n_heads=4.0: expected int"),
        ({"n_heads": True}, "n_heads=True: expected int"),
        ({"d_model": "128"}, "d_model='128': expected int"),
        ({"ffn_dropout_p": None}, "ffn_dropout_p=None: expected float"),
        ({"d_model": 10**9}, "not a checkpoint of Kronos, or damaged"),
    ],
)
def test_an_impossible_configuration_is_refused(
    folder: Path, change: dict[str, object], message: str
) -> None:
    path = folder / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))

    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(str(folder))


@pytest.mark.parametrize("text", ["[1]", "{", "", "null", "\x00"])
def test_a_configuration_that_is_not_an_object_is_refused(folder: Path, text: str) -> None:
    (folder / "tokenizer" / "config.json").write_text(text)

    with pytest.raises(CheckpointError, match="tokenizer: not a checkpoint of KronosTokenizer"):
        load_checkpoint(str(folder))


def test_keys_of_other_tools_in_a_configuration_are_ignored(folder: Path) -> None:
    path = folder / "model" / "config.json"
    others = {"architectures": ["Kronos"], "torch_dtype": "float32", "ffn_dropout_p": 0}
    path.write_text(json.dumps(json.loads(path.read_text()) | others))

    assert load_checkpoint(str(folder)).model.config.d_model == 128


def test_a_new_module_has_random_weights_and_is_saved_with_its_shape(
    tmp_path: Path,
) -> None:
    for kind, config in (
        (Kronos, KronosConfig(n_layers=1, d_model=32, ff_dim=16)),
        (KronosTokenizer, KronosTokenizerConfig(n_enc_layers=2, d_model=32)),
    ):
        fresh = kind(config)
        fresh.save_pretrained(tmp_path / kind.__name__)
        loaded = kind.from_pretrained(tmp_path / kind.__name__)

        assert loaded.config == config
        assert not loaded.training
        for (name, before), after in zip(
            fresh.named_parameters(), loaded.parameters(), strict=True
        ):
            assert torch.equal(before, after)
            assert before.isfinite().all()
            assert name.endswith("bias") or before.std() > 0 or before.eq(1).all()


@pytest.mark.parametrize("file", list(BUNDLED_FILES["kronos-nano"]))
def test_a_changed_file_of_the_bundled_checkpoint_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    bundled = folder.rename(folder.parent / "kronos-nano").parent
    monkeypatch.setattr(module, "BUNDLED", bundled)
    assert load_checkpoint("kronos-nano").name == "kronos-nano"
    path = bundled / "kronos-nano" / file
    path.write_bytes(path.read_bytes() + b" ")

    with pytest.raises(CheckpointError, match=rf"{file}: missing or changed since kronos-nano"):
        load_checkpoint("kronos-nano")


def test_every_published_model_has_a_pinned_revision() -> None:
    for entry in CATALOGUE.values():
        for revision in (entry.model_revision, entry.tokenizer_revision):
            assert re.fullmatch("[0-9a-f]{40}", revision)


@pytest.mark.parametrize("name", PUBLISHED_MODELS)
def test_the_configuration_of_a_published_model_is_checked(name: str, tmp_path: Path) -> None:
    entry = CATALOGUE[name]
    path = tmp_path / "config.json"
    expected = (entry.model_config, entry.tokenizer_config)
    for config, shape in zip(expected, published_shape(name), strict=True):
        right = asdict(shape)
        path.write_text(json.dumps(right))
        check_config(path.parent, config)
        assert config.keys() <= right.keys()
        for field, value in config.items():
            path.write_text(json.dumps(right | {field: 2 * int(value)}))
            with pytest.raises(CheckpointError, match=f"{field} is {2 * int(value)}, expected"):
                check_config(path.parent, config)
        path.write_text("[1]")
        with pytest.raises(CheckpointError, match=r"config.json: no JSON object"):
            check_config(path.parent, config)


def test_a_copy_of_published_weights_needs_their_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = CATALOGUE["kronos-mini"]
    folder = write_checkpoint(tmp_path / "mini")
    checksums = {"model": mini.model_sha256, "tokenizer": mini.tokenizer_sha256}
    monkeypatch.setattr(module, "sha256_of", lambda path: checksums[path.parent.name])
    path = folder / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"n_heads": 8}))

    with pytest.raises(CheckpointError, match="n_heads is 8, expected 4"):
        load_checkpoint(str(folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("part", "tensor"),
    [
        ("model", "norm.weight"),
        ("model", "head.proj_s2.bias"),
        ("model", "embedding.emb_s1.weight"),
        ("tokenizer", "head.weight"),
        ("tokenizer", "encoder.0.ffn.w1.weight"),
    ],
)
def test_a_weight_that_is_nan_ends_the_start_with_a_one_line_error(
    folder: Path, part: str, tensor: str, value: float
) -> None:
    path = folder / part / "model.safetensors"
    spoilt = load_file(path)[tensor].clone()
    spoilt.view(-1)[-1] = value
    edit_tensors(path, **{tensor: spoilt})

    with pytest.raises(CheckpointError, match=rf"the {part}'s {tensor} holds a NaN or an infinite"):
        load_checkpoint(str(folder))


def test_finite_weights_that_overflow_end_the_start_too(folder: Path) -> None:
    path = folder / "model" / "model.safetensors"
    edit_tensors(path, **{"head.proj_s1.weight": load_file(path)["head.proj_s1.weight"] * 1e38})

    with pytest.raises(CheckpointError, match="a trial forecast gives a NaN or an infinite number"):
        load_checkpoint(str(folder))
