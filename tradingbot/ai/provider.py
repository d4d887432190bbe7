"""Select the language model that the caller names, or else the model that the environment names.

A key is sent only to the address that the key belongs to.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from tradingbot.environment import environment
from tradingbot.errors import ConfigError
from tradingbot.install_command import install_command
from tradingbot.settings import default_timeouts
from tradingbot.settings.variables import check_secret, check_url

OPENROUTER = "https://openrouter.ai/api/v1"
OPENAI = "https://api.openai.com/v1"

VARIABLES = {
    "KRONOS_AI_MODEL": "name of the model at its provider; it must be able to call tools",
    "OPENROUTER_API_KEY": "a key of openrouter.ai",
    "OPENAI_API_KEY": "a key of OpenAI, or of the server at `OPENAI_BASE_URL` (any text if it "
    "needs none)",
    "OPENAI_BASE_URL": "a server that speaks OpenAI's protocol, such as "
    "`http://127.0.0.1:11434/v1`; it takes precedence",
}


def chat_model(name: str | None = None, environ: Mapping[str, str] | None = None) -> BaseChatModel:
    """Return the chat model of this name at the provider in `environ`, without connecting.

    By default `name` is KRONOS_AI_MODEL, and `environ` is the environment of this process. A
    request times out after `ai_request` seconds.

    Raises:
        ConfigError: The name, a key or the package langchain-openai is missing.
    """
    environ = environment(environ)
    name = name or environ.get("KRONOS_AI_MODEL", "").strip()
    if not name:
        raise ConfigError(
            "KRONOS_AI_MODEL is not set: name a model that can call tools, as its provider "
            "spells it, or pass model="
        )
    url, key = _provider(environ)
    timeouts = default_timeouts()
    try:
        from langchain_openai import ChatOpenAI
    except ImportError as error:
        raise ConfigError(
            f"the package langchain-openai is missing: {install_command('ai')}, or pass a chat "
            "model as model="
        ) from error
    return ChatOpenAI(
        model=name,
        base_url=url,
        api_key=SecretStr(key),
        timeout=timeouts.ai_request,
        max_retries=timeouts.ai_retries,
    )


def _provider(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the provider's address and the key for it."""
    keys = {
        variable: check_secret(variable, value)
        for variable in ("OPENROUTER_API_KEY", "OPENAI_API_KEY")
        if (value := environ.get(variable, "").strip())
    }
    given = environ.get("OPENAI_BASE_URL", "").strip()
    if given:
        url = check_url("OPENAI_BASE_URL", given)
        host = urlsplit(url).hostname or ""
        is_openrouter = host == "openrouter.ai" and "OPENAI_API_KEY" not in keys
        variable = "OPENROUTER_API_KEY" if is_openrouter else "OPENAI_API_KEY"
        if variable not in keys:
            raise ConfigError(
                f"{variable} is not set: {url} requires a key; any text will do for a server "
                "that asks for none"
            )
        return url, keys[variable]
    if "OPENROUTER_API_KEY" in keys:
        return OPENROUTER, keys["OPENROUTER_API_KEY"]
    if "OPENAI_API_KEY" in keys:
        return OPENAI, keys["OPENAI_API_KEY"]
    raise ConfigError(
        "there is no key for a language model: set OPENROUTER_API_KEY or OPENAI_API_KEY "
        "(with OPENAI_BASE_URL for a server of your own), or pass model="
    )
