"""The service's settings from environment variables."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

import kronos_space
from kronos_space.settings import Settings, SettingsError


def test_without_an_environment_the_defaults_of_the_contract_hold() -> None:
    settings = Settings.from_env({})
    assert settings.model == "kronos-mini"
    assert settings.api_key is None
    assert (settings.min_history, settings.max_history) == (32, 4096)
    assert (settings.max_horizon, settings.max_samples, settings.max_batch) == (256, 256, 256)


def test_values_are_read_and_an_empty_one_counts_as_not_set() -> None:
    settings = Settings.from_env({"KRONOS_MAX_BATCH": " 12 ", "KRONOS_MODEL": ""})
    assert settings.max_batch == 12
    # read from a file
    assert Settings.from_env({"KRONOS_API_KEY": "\ufeffkey\r\n"}).api_key == "key"
    assert settings.model == "kronos-mini"


@pytest.mark.parametrize("value", ["abc", "0", "-1", "1.5", "99999", "1e2", "٣", "9" * 5000])
def test_a_wrong_number_is_refused_with_its_name_value_and_bounds(value: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings.from_env({"KRONOS_MAX_BATCH": value})
    assert "KRONOS_MAX_BATCH=" in str(error.value)
    assert "expected a whole number from 1 to 4096" in str(error.value)


def test_a_number_with_thousands_of_digits_is_above_its_bound() -> None:
    with pytest.raises(SettingsError, match="from 1 to 999999999"):
        Settings.from_env({"KRONOS_MAX_WORK": "9999999999"})


def test_an_unknown_choice_is_refused_with_the_choices() -> None:
    with pytest.raises(SettingsError, match="KRONOS_DTYPE='half': expected one of float32, bfl"):
        Settings.from_env({"KRONOS_DTYPE": "half"})


def test_a_smallest_history_above_the_largest_is_refused() -> None:
    with pytest.raises(SettingsError, match="KRONOS_MIN_HISTORY=64: expected at most"):
        Settings.from_env({"KRONOS_MIN_HISTORY": "64", "KRONOS_MAX_HISTORY": "50"})


def test_the_api_key_does_not_show_in_the_settings_text() -> None:
    assert "geheim" not in repr(Settings.from_env({"KRONOS_API_KEY": "geheim"}))


def test_every_setting_is_in_the_table_of_the_readme() -> None:
    readme = (Path(kronos_space.__file__).parent / "README.md").read_text()
    for setting in fields(Settings):
        default = "" if setting.default is None else f"`{setting.default}`"
        row = f"| `{setting.metadata['env']}` | {default} | {setting.metadata['about']} |"
        assert row.replace("|  |", "| |") in readme


def test_no_page_names_an_unknown_setting_of_the_space() -> None:
    known = {setting.metadata["env"] for setting in fields(Settings)} | {"KRONOS_BAKE"}
    folder = Path(kronos_space.__file__).parent
    code = [path for path in folder.rglob("*.py") if folder / "finetune" not in path.parents]
    # finetune reads the job's settings
    pages = [folder / "README.md", folder / "Dockerfile", *code]
    pages += [folder.parent / "docs" / name for name in ("api/space.md", "operations/deploying.md")]
    for path in pages:
        assert set(re.findall(r"\bKRONOS_[A-Z_]+\b", path.read_text())) <= known, path


def test_every_setting_is_documented_once() -> None:
    readme = (Path(kronos_space.__file__).parent / "README.md").read_text()
    for setting in fields(Settings):
        assert readme.count(f"| `{setting.metadata['env']}` |") == 1


@pytest.mark.parametrize("key", ["schl\u00fcssel\u20ac", "a\nb"])
def test_a_key_invalid_in_a_header_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(SettingsError, match="KRONOS_API_KEY has characters that no HTTP") as error:
        Settings.from_env({"KRONOS_API_KEY": key})
    assert key not in str(error.value)
