"""Settings are checked when they are read; an error names the expected value."""

import pytest

from tradingbot.errors import ConfigError
from tradingbot.persistence.url import database_url
from tradingbot.settings import Settings, Timeouts, default_timeouts, use_timeouts


def test_without_a_variable_the_documented_defaults_hold() -> None:
    assert Settings.from_env({}) == Settings(
        space_url=None,
        api_key=None,
        hf_token=None,
        hf_space_repo="guestros/kronos-trading-api",
        horizon=5,
        samples=50,
        extra_symbols=("SPY", "QQQ", "GLD"),
        data_source="yahoo",
        min_success=0.5,
        wake_timeout=900.0,
        pause="always",
        max_staleness=5,
        shards=1,
        completion_index=None,
    )


def test_every_variable_is_read() -> None:
    settings = Settings.from_env(
        {
            "KRONOS_SPACE_URL": "https://me-kronos.hf.space/",
            "KRONOS_API_KEY": "secret",
            "HF_TOKEN": "hf_abc",
            "HF_SPACE_REPO": "me/kronos",
            "KRONOS_HORIZON": "24",
            "KRONOS_SAMPLES": "7",
            "KRONOS_EXTRA_SYMBOLS": "spy, BTC-USD,,SPY",
            "KRONOS_DATA_SOURCE": "csv:/data/candles",
            "KRONOS_MIN_SUCCESS": "0.9",
            "KRONOS_WAKE_TIMEOUT": "60",
            "KRONOS_PAUSE": "if-woken",
            "KRONOS_MAX_STALENESS": "2",
            "KRONOS_SHARDS": "4",
            "JOB_COMPLETION_INDEX": "0",
        }
    )
    assert settings == Settings(
        space_url="https://me-kronos.hf.space",
        api_key="secret",
        hf_token="hf_abc",
        hf_space_repo="me/kronos",
        horizon=24,
        samples=7,
        extra_symbols=("SPY", "BTC-USD"),
        data_source="csv:/data/candles",
        min_success=0.9,
        wake_timeout=60.0,
        pause="if-woken",
        max_staleness=2,
        shards=4,
        completion_index=0,
    )


def test_an_empty_variable_counts_as_unset_but_no_extra_symbols_means_none() -> None:
    assert Settings.from_env({"KRONOS_HORIZON": "", "HF_TOKEN": " "}) == Settings()
    assert Settings.from_env({"KRONOS_EXTRA_SYMBOLS": ""}).extra_symbols == ()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("KRONOS_HORIZON", "abc", "a whole number from 1 to 256"),
        ("KRONOS_HORIZON", "0", "a whole number from 1 to 256"),
        ("KRONOS_HORIZON", "1_0", "a whole number from 1 to 256"),
        ("KRONOS_MIN_SUCCESS", "0.5_0", "a number from 0 to 1"),
        ("KRONOS_HORIZON", "1.5", "a whole number from 1 to 256"),
        ("KRONOS_SAMPLES", "257", "a whole number from 1 to 256"),
        ("KRONOS_MIN_SUCCESS", "50%", "a number from 0 to 1"),
        ("KRONOS_MIN_SUCCESS", "nan", "a number from 0 to 1"),
        ("KRONOS_WAKE_TIMEOUT", "inf", "a number from 1 to 86400"),
        ("KRONOS_PAUSE", "sometimes", "always or if-woken or never"),
        ("KRONOS_DATA_SOURCE", "csv:", "yahoo, sample or csv:DIR"),
        ("KRONOS_SPACE_URL", "me-kronos.hf.space", "an address such as https://"),
        ("KRONOS_SPACE_URL", "http://host:port", "an address such as https://"),
        ("HF_SPACE_REPO", "kronos", "owner/space"),
        ("KRONOS_MAX_STALENESS", "-1", "a whole number from 0 to"),
        ("KRONOS_SHARDS", "0", "a whole number from 1 to 1000"),
        ("KRONOS_HORIZON", "9" * 5000, "a whole number from 1 to 256"),
        ("HF_ENDPOINT", "huggingface.co", "an address such as https://huggingface.co"),
        ("JOB_COMPLETION_INDEX", "first", "a whole number from 0 to"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_expected(name: str, value: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        Settings.from_env({name: value})
    assert str(error.value).startswith(f"{name}={value!r}: expected")
    assert expected in str(error.value)


def test_events_are_moves_with_commas_between_them() -> None:
    read = Settings.from_env({"KRONOS_EVENTS": "Touch 2 %, reach +3% before -2%,touch +2%"})
    assert [*map(str, read.events)] == ["touch +2%", "reach +3% before -2%"]
    assert Settings.from_env({"KRONOS_EVENTS": " "}).events == ()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("touch +2%, tuch 5%", "event 'tuch 5%': expected touch LEVEL, reach LEVEL before LEVEL"),
        ("touch 105", "event 'touch 105': expected moves such as +2%, not a price"),
        (",".join(f"touch +{n}%" for n in range(1, 22)), "21 events: expected at most 20"),
    ],
)
def test_an_event_with_a_price_is_refused_for_all_tickers(value: str, expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        Settings.from_env({"KRONOS_EVENTS": value})
    assert str(error.value).startswith(f"KRONOS_EVENTS='{value[:60]}")
    assert expected in str(error.value)


@pytest.mark.parametrize("name", ["KRONOS_API_KEY", "HF_TOKEN"])
@pytest.mark.parametrize("value", ["schl\u00fcssel\u20ac", "a\nb", "a\x7fb"])
def test_a_secret_invalid_in_a_header_is_refused_without_showing_it(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} has characters that no HTTP header") as error:
        Settings.from_env({name: value})
    assert value not in str(error.value)


def test_byte_order_marks_and_line_ends_of_files_are_removed_from_values() -> None:
    marked = {"HF_TOKEN": "\ufeffhf_x\r\n", "KRONOS_HORIZON": "\ufeff0000000007\n"}
    settings = Settings.from_env(marked | {"KRONOS_API_KEY": "\ufeffkey\r\n"})
    assert (settings.hf_token, settings.api_key, settings.horizon) == ("hf_x", "key", 7)
    assert database_url({"DATABASE_URL": "\ufeffpostgresql://me@h/k\r\n"}).endswith("me@h/k")
    parts = {
        "POSTGRES_HOST": "h\n",
        "POSTGRES_USER": "\ufeffme",
        "POSTGRES_PASSWORD": "\ufeffpw\r\n",
    }
    assert database_url(parts).endswith("//me:pw@h")


def test_printed_settings_hide_secrets() -> None:
    settings = Settings.from_env({"HF_TOKEN": "hf_secret", "KRONOS_API_KEY": "key_secret"})
    assert "secret" not in repr(settings)


def test_time_outs_can_be_replaced_temporarily_for_the_process() -> None:
    hurried = Timeouts(hub_answer=0.5)
    with use_timeouts(hurried):
        assert Settings.from_env({}).timeouts is default_timeouts() is hurried
    assert Settings().timeouts == Timeouts()
