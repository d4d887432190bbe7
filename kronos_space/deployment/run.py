"""One deployment from start to end: compare, show the differences, apply them, wait."""

import json
from collections.abc import Callable, Mapping

import typer

from kronos_space.deployment import deploy, waiting
from kronos_space.deployment.access import address, hub_token, quiet
from kronos_space.deployment.errors import printable
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
    """Deploy; print the Space's URL and its /health to standard output.

    Args:
        say: Called with each progress message.
        timeout: Seconds to wait for the Space, or None not to wait.

    Raises:
        HubError, HubRefused: One line: what, why, and what to do.
    """
    quiet()
    wanted = deploy.Wanted(repo, variables, secrets, private)
    token = hub_token()
    space = HubSpace(repo, token, endpoint=address())
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
        typer.echo(printable(waiting.address(info)))
    if not plan.restarts and (stage := space.stage()) in deploy.RESTS:
        say(f"it is {stage}, and was not woken: the nightly job wakes it, or its page does")
        return
    if timeout is not None:
        health = waiting.wait_until_up(
            space,
            key=token,
            timeout=timeout,
            say=say,
            old_boot=old_boot,
            changed=plan.restarts,
        )
        typer.echo(json.dumps(health))


def _show(plan: deploy.Plan) -> None:
    for line in plan.lines():
        typer.echo(printable(f"would {line}"))
    if not plan:
        typer.echo("nothing would change")
