"""Access to the Hub: the token, the address, and a check of repository names."""

import huggingface_hub
from huggingface_hub import logging
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]
from huggingface_hub.utils.tqdm import disable_progress_bars

from kronos_space.deployment.errors import HubRefused
from kronos_space.environment import environment


def quiet() -> None:
    """Silence huggingface_hub; the commands print their own messages."""
    disable_progress_bars()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def hub_token() -> str:
    """Return HF_TOKEN, or the token that `hf auth login` saved.

    Raises:
        HubRefused: There is no token.
    """
    token = huggingface_hub.get_token()
    if not token:
        raise HubRefused(
            "HF_TOKEN is not set: make a write token at https://huggingface.co/settings/tokens"
        )
    return token


def address() -> str | None:
    """Return HF_ENDPOINT for error messages, or None for huggingface.co."""
    address = environment().get("HF_ENDPOINT", "").strip()
    if set("@?#") & set(address):
        raise HubRefused("HF_ENDPOINT has a user, a password or a query in it: leave them out")
    return address or None


def check_repo_name(repo: str) -> None:
    """Raise HubRefused unless `repo` has the form OWNER/NAME."""
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise HubRefused(f"{repo!r}: {error}") from error
    if "/" not in repo:
        raise HubRefused(f"{repo!r}: expected OWNER/NAME, such as me/kronos")
