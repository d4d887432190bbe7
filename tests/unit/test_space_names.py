"""Two settings identify a Space: one is derived from the other, and secrets need certainty."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot.ai.provider import chat_model
from tradingbot.client import KronosClient
from tradingbot.environment import environment
from tradingbot.errors import ConfigError, KronosError
from tradingbot.persistence.url import database_url
from tradingbot.settings import Settings, hub_endpoint
from tradingbot.space.address import SpaceAddress
from tradingbot.space.client import SpaceClient
from tradingbot.space.connect import check_space_is_known
from tradingbot.space_names import DEFAULT_SPACE, contradict, fault_of, repo_at

DEFAULT_URL = "https://guestros-kronos-trading-api.hf.space"
OWN = {"KRONOS_SPACE_URL": "https://me-kronos.hf.space"}

parts = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True)
repos = st.builds("{}/{}".format, parts, parts)


def given_env(**environ: str) -> Settings:
    return Settings.from_env(environ)


# derive one from the other -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("repo", "url"),
    [
        ("me/kronos", "https://me-kronos.hf.space"),
        ("My-Org/Kronos_Small.v2", "https://my-org-kronos-small-v2.hf.space"),
        (DEFAULT_SPACE, DEFAULT_URL),
    ],
)
def test_the_address_is_derived_from_the_name_as_on_the_hub(repo: str, url: str) -> None:
    settings = given_env(HF_SPACE_REPO=repo)
    assert (settings.space_url, settings.hf_space_repo) == (url, repo)


@pytest.mark.parametrize(
    ("url", "repo"),
    [
        ("https://me-kronos.hf.space/", "me/kronos"),
        ("https://ME-Kronos.HF.space", "me/kronos"),
        (DEFAULT_URL, DEFAULT_SPACE),
        ("https://my-own-kronos.hf.space", ""),  # my/own-kronos or my-own/kronos
        ("http://kronos-space:7860", ""),  # your own Space, not on the Hub
        ("https://me-kronos.evilhf.space", ""),
    ],
)
def test_the_name_is_derived_from_an_unambiguous_address(url: str, repo: str) -> None:
    assert given_env(KRONOS_SPACE_URL=url).hf_space_repo == repo


def test_without_either_setting_the_default_pair_is_used() -> None:
    assert (Settings.from_env({}).space_url, Settings.from_env({}).hf_space_repo) == (
        None, DEFAULT_SPACE,
    )  # fmt: skip


def test_a_name_that_is_too_long_for_a_host_name_needs_the_address_too() -> None:
    repo = f"me/{'k' * 70}"
    assert given_env(HF_SPACE_REPO=repo).space_url is None
    both = given_env(HF_SPACE_REPO=repo, KRONOS_SPACE_URL="https://me-kkk-short.hf.space")
    assert both.hf_space_repo == repo


@given(repos)
def test_the_address_of_a_space_never_contradicts_its_name(repo: str) -> None:
    settings = given_env(HF_SPACE_REPO=repo)
    assert settings.space_url is not None
    assert given_env(HF_SPACE_REPO=repo, KRONOS_SPACE_URL=settings.space_url) == settings
    assert not contradict(settings.space_url.upper(), repo)
    again = repo_at(settings.space_url)
    assert again is None or not contradict(settings.space_url, again)


# contradictions ------------------------------------------------------------------------------


@given(repos, repos)
def test_two_settings_that_name_two_spaces_are_refused_by_both_names(one: str, two: str) -> None:
    url = given_env(HF_SPACE_REPO=one).space_url
    assert url is not None
    letters = [re.sub("[^a-z0-9]+", "", repo.lower()) for repo in (one, two)]
    if letters[0] == letters[1]:
        return
    with pytest.raises(ConfigError) as refusal:
        given_env(KRONOS_SPACE_URL=url, HF_SPACE_REPO=two)
    assert all(name in str(refusal.value) for name in ("KRONOS_SPACE_URL", "HF_SPACE_REPO", two))


@pytest.mark.parametrize("make", [KronosClient, Settings.from_env])
def test_the_client_refuses_contradictory_settings_as_the_job_does(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRONOS_SPACE_URL", DEFAULT_URL)
    monkeypatch.setenv("HF_SPACE_REPO", "me/kronos")
    with pytest.raises(ConfigError, match="are two Spaces"):
        make()


def test_any_space_may_be_combined_with_an_address_outside_hf_space() -> None:
    for url in ("http://127.0.0.1:7860", "https://kronos.example.org", "http://space:7860"):
        settings = given_env(KRONOS_SPACE_URL=url, HF_SPACE_REPO="me/kronos")
        assert (settings.space_url, settings.hf_space_repo) == (url, "me/kronos")


# who gets a secret ---------------------------------------------------------------------------

KEY, TOKEN = {"KRONOS_API_KEY": "k3y"}, {"HF_TOKEN": "hf_x"}


@pytest.mark.parametrize("secrets", [KEY, TOKEN, KEY | TOKEN])
@pytest.mark.parametrize(
    ("space", "refused"),
    [
        ({"KRONOS_SPACE_URL": DEFAULT_URL}, "HF_SPACE_REPO is not set"),
        ({"KRONOS_SPACE_URL": f"{DEFAULT_URL}/"}, "HF_SPACE_REPO is not set"),
        ({"KRONOS_SPACE_URL": DEFAULT_URL.upper().replace("HTTPS", "https")}, "HF_SPACE_REPO is"),
        ({}, "KRONOS_SPACE_URL is not set"),
        ({"HF_SPACE_REPO": DEFAULT_SPACE}, None),
        ({"HF_SPACE_REPO": DEFAULT_SPACE, "KRONOS_SPACE_URL": DEFAULT_URL}, None),
        (OWN, None),
        ({"HF_SPACE_REPO": "my-org/kronos"}, None),
        ({"KRONOS_SPACE_URL": "http://kronos-space:7860"}, None),
    ],
)
def test_the_default_spaces_owner_gets_a_secret_only_if_named(
    space: dict[str, str], secrets: dict[str, str], refused: str | None
) -> None:
    settings = Settings.from_env({**space, **secrets})
    check_space_is_known(settings, local=True)
    if refused is None:
        check_space_is_known(settings, local=False)
        return
    with pytest.raises(ConfigError, match=refused) as refusal:
        check_space_is_known(settings, local=False)
    assert not any(value in str(refusal.value) for value in secrets.values())


def test_without_a_secret_anyone_may_use_the_default_space() -> None:
    settings = given_env(KRONOS_SPACE_URL=DEFAULT_URL)
    check_space_is_known(settings, local=False)
    assert settings.space_in_words == f"the default Space {DEFAULT_SPACE} at {DEFAULT_URL}"


def test_a_client_sends_no_key_to_the_default_space_by_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KRONOS_API_KEY", "k3y")
    for unasked in (DEFAULT_URL, None):
        monkeypatch.setenv("KRONOS_SPACE_URL", DEFAULT_URL)
        client = KronosClient(unasked)  # a new bot may still use stored forecasts
        assert not client.is_healthy()
        with pytest.raises(ConfigError, match="HF_SPACE_REPO is not set, and KRONOS_API_KEY"):
            client.forecast("AAPL")
    assert KronosClient(api_key="meant").space.url == DEFAULT_URL
    monkeypatch.setenv("HF_SPACE_REPO", DEFAULT_SPACE)
    assert KronosClient().space.url == DEFAULT_URL


def test_a_client_needs_no_token_and_sends_none_to_foreign_spaces() -> None:
    settings = given_env(KRONOS_SPACE_URL=DEFAULT_URL, HF_TOKEN="hf_x")
    client = SpaceClient(SpaceAddress.of(settings))
    assert client._http._token is None
    named = given_env(HF_SPACE_REPO=DEFAULT_SPACE, HF_TOKEN="hf_x")
    assert SpaceClient(SpaceAddress.of(named))._http._token == "hf_x"


def test_a_token_requires_the_spaces_name_if_the_address_is_ambiguous() -> None:
    settings = given_env(KRONOS_SPACE_URL="https://my-own-kronos.hf.space", HF_TOKEN="hf_x")
    with pytest.raises(ConfigError, match="may be the address of several Spaces"):
        check_space_is_known(settings, local=False)
    check_space_is_known(given_env(KRONOS_SPACE_URL="http://s:7860", HF_TOKEN="hf_x"), local=False)


# addresses contain no secret -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["KRONOS_SPACE_URL", "HF_ENDPOINT", "OPENAI_BASE_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "https://me:s3cret@host/v1",
        "https://s3cret@host",
        "https://host/v1?key=s3cret",
        "https://host/?s3cret",
        "https://host#s3cret",
        "https://me:s3/cret@host:port",
        "me:s3cret@host",
        "https://me:s3cret\uff20host",
        "ftp://me:s3cret@host",
    ],
)
def test_an_address_with_a_secret_in_it_is_refused_and_not_shown(name: str, url: str) -> None:
    environ = {name: url, "KRONOS_AI_MODEL": "m", "OPENAI_API_KEY": "k"}
    read = chat_model if name == "OPENAI_BASE_URL" else Settings.from_env
    with pytest.raises(ConfigError, match=f"{name} has a (user|query)") as refusal:
        read(environ=environ)
    assert "s3" not in str(refusal.value)


@given(st.text(max_size=30))
def test_no_accepted_address_contains_a_user_or_a_query(text: str) -> None:
    if fault_of(text) is None:
        assert not set("@?#") & set(text)


def test_an_address_given_to_the_client_contains_none_either() -> None:
    with pytest.raises(KronosError, match="space_url has a user") as refusal:
        KronosClient("https://me:s3cret@host")
    assert "s3cret" not in str(refusal.value)


# line ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_settings_lose_the_line_end_of_a_file(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres = {
        "POSTGRES_HOST": "db", "POSTGRES_PORT": "5432", "POSTGRES_USER": "me",
        "POSTGRES_PASSWORD": " s3cret ", "POSTGRES_DATABASE": "bots",
    }  # fmt: skip
    rest = {"KRONOS_API_KEY": "key", "HF_TOKEN": "hf_x", "KRONOS_DATA_SOURCE": "csv:/data",
            "HF_SPACE_REPO": "me/kronos", "KRONOS_EXTRA_SYMBOLS": "SPY,QQQ", "KRONOS_HORIZON": "3",
            "HF_ENDPOINT": "https://hub.example.org", "KRONOS_PAUSE": "never"}  # fmt: skip
    ended = {name: value + end for name, value in (postgres | rest).items()}
    assert environment(ended) == postgres | rest
    assert database_url(ended) == database_url(postgres)
    assert ": s3cret @" in database_url(ended), "blanks may belong to a password"
    assert Settings.from_env(ended) == Settings.from_env(rest)
    assert hub_endpoint(ended) == "https://hub.example.org"
    for name, value in ended.items():
        monkeypatch.setenv(name, value)
    assert Settings.from_env() == Settings.from_env(rest)
    assert database_url() == database_url(postgres)
    assert hub_endpoint() == "https://hub.example.org"
