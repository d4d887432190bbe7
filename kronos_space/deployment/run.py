"""One deployment from start to end: look, tell what differs, change it, wait for the Space."""

import json
import os
from collections.abc import Callable, Mapping

import huggingface_hub
import typer
from huggingface_hub import logging
from huggingface_hub.utils.tqdm import disable_progress_bars

from kronos_space.deployment import deploy
from kronos_space.deployment.errors import HubRefused, printable
from kronos_space.deployment.hub import HubSpace


def run(
    repo: str,
    *,
    variables: Mapping[str, str],
    secrets: Mapping[str, str],
    private: bool,
    dry_run: bool,
    timeout: float | None,
    say: Callable[[str], None],
) -> None:
    """Print the Space's address and /health to standard output; `say` tells what happens.

    timeout: seconds to wait for the Space; None does not wait. Raises HubError, HubRefused.
    """
    disable_progress_bars()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    wanted = deploy.Wanted(repo, variables, secrets, private)
    token = huggingface_hub.get_token()
    if not token:
        raise HubRefused(
            "HF_TOKEN is not set: make a write token at https://huggingface.co/settings/tokens"
        )
    space = HubSpace(repo, token, endpoint=_endpoint())
    plan = deploy.make_plan(space, wanted, key=token)
    if dry_run:
        _show(plan)
        return
    for line in plan.lines():
        say(line)
    if not plan:
        say("nothing to change")
    old_boot = deploy.boot_id(space, key=token) if plan.restarts and not plan.create else None
    deploy.apply(plan, space, wanted, key=token, say=say)
    info = space.info()
    if info is not None:
        typer.echo(printable(deploy.address(info)))
    if not plan.restarts and (stage := space.stage()) in deploy.RESTS:
        say(f"it is {stage}, and stays so: the nightly job wakes it, or its page does")
        return
    if timeout is not None:
        health = deploy.wait_until_up(
            space,
            key=token,
            timeout=timeout,
            say=say,
            old_boot=old_boot,
            changed=plan.restarts,
        )
        typer.echo(json.dumps(health))


def _endpoint() -> str | None:
    """HF_ENDPOINT, which is shown in errors; None: huggingface.co."""
    address = os.environ.get("HF_ENDPOINT", "").strip()
    if set("@?#") & set(address):
        raise HubRefused("HF_ENDPOINT has a user, a password or a query in it: leave them out")
    return address or None


def _show(plan: deploy.Plan) -> None:
    for line in plan.lines():
        typer.echo(printable(f"would {line}"))
    if not plan:
        typer.echo("nothing would change")
