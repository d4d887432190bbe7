"""KRONOS_MODELS: which models the job uses, and which Space serves each."""

import pytest

from tradingbot.errors import ConfigError
from tradingbot.settings import Settings
from tradingbot.settings.models import AskedModel, parse_models


@pytest.mark.parametrize(
    ("text", "models"),
    [
        ("kronos-mini", [AskedModel("kronos-mini")]),
        (" NeoQuasar/Kronos-mini , mini+2026-06-30 ",
         [AskedModel("NeoQuasar/Kronos-mini"), AskedModel("mini+2026-06-30")]),
        ("a,b=me/space", [AskedModel("a"), AskedModel("b", space_repo="me/space")]),
        ("a,me/b=https://x.hf.space/",
         [AskedModel("a"), AskedModel("me/b", space_url="https://x.hf.space")]),
        ("a,b = http://space:7860",
         [AskedModel("a"), AskedModel("b", space_url="http://space:7860")]),
    ],
)  # fmt: skip
def test_a_models_entry_may_name_its_space(text: str, models: list[AskedModel]) -> None:
    assert Settings.from_env({"KRONOS_MODELS": text}).models == tuple(models)


@pytest.mark.parametrize(
    "text",
    [",", "a,", "a,,b", "a,A", "a,b=", "a,=me/space", "a,b=ftp://x", "a,b=nowhere", "a,b=x y",
     "a=https://x.hf.space", "a=me/space,b", "a,b=https://user:pw@x", "a\nb", "a" * 201],
)  # fmt: skip
def test_an_invalid_value_is_refused_in_one_line_that_names_the_setting(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_models(text)
    assert str(refused.value).startswith("KRONOS_MODELS")
    assert "\n" not in str(refused.value)


def test_without_the_setting_the_space_chooses_the_model() -> None:
    assert Settings.from_env({}).models == Settings.from_env({"KRONOS_MODELS": " "}).models == ()


@pytest.mark.parametrize("name", ["NeoQuasar/Kronos-mini", "kronos-mini", "KRONOS-MINI"])
def test_a_model_may_be_named_without_its_owner(name: str) -> None:
    assert AskedModel(name).is_called("NeoQuasar/Kronos-mini")
    assert not AskedModel(name).is_called("NeoQuasar/Kronos-mini+2026-06-30")
