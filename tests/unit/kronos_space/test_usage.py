"""The messages of `kronos-space` for new users and for typing errors."""

import pytest
from typer.testing import CliRunner

from kronos_space.deployment.commands import app


def test_the_list_of_commands_has_whole_sentences() -> None:
    output = CliRunner().invoke(app, ["--help"]).output
    assert "..." not in output
    assert "test whether it improved." in " ".join(output.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["deplo"], "No such command 'deplo'. Did you mean 'deploy'? Try 'kronos-space --help'"),
        (["deploy"], "Missing argument 'OWNER/NAME'. Try 'kronos-space deploy --help'"),
        (["promote", "--bogus"], "No such option: --bogus. Try 'kronos-space promote --help'"),
        (["finetune", "--steps", "x"], "Invalid value for '--steps'"),
    ],
)
def test_a_typing_error_is_reported_in_one_line_with_a_hint(
    arguments: list[str], says: str
) -> None:
    done = CliRunner().invoke(app, arguments, prog_name="kronos-space")
    assert done.exit_code == 2
    assert done.output.startswith(f"Error: {says}")
    assert done.output.endswith("--help' for help.\n")
    assert done.output.count("\n") == 1
