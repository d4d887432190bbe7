"""Notifications of the real command: after a failure, after SIGTERM, and on request."""

import json
import os
import socket
from pathlib import Path

from tests.support import commands
from tests.support.command_line import kronosbot
from tests.support.notification_server import notification_server


def test_failed_and_stopped_runs_send_notifications(tmp_path: Path) -> None:
    with notification_server() as box, socket.create_server(("127.0.0.1", 0)) as silent:
        space = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = {"KRONOS_NOTIFY": f"slack+{box.url}/hook", "KRONOS_SPACE_URL": space}
        for arguments, more in ((["--horizon", "0"], {}), ([], {"KRONOS_HORIZON": "abc"})):
            done = kronosbot("run", *arguments, folder=tmp_path, **settings, **more)
            assert done.returncode == 2, done.stderr
            text = box.posts.pop().body["text"]
            assert text.startswith("kronosbot failed: ")
            assert "(exit code 2)" in text

        running = commands.piped(
            "tradingbot.kronosbot", "run", "--source", "sample", cwd=tmp_path,
            env={**os.environ, **settings},
        )  # fmt: skip
        connection, _ = silent.accept()  # the run now waits for the Space
        with connection:
            running.terminate()
            _, err = running.communicate(timeout=60)
        assert running.returncode == 143, err
        [post] = box.posts
        assert post.body["text"].startswith("kronosbot stopped: by SIGTERM, 0 of 4 tickers have")


def test_a_signal_during_a_hanging_notification_does_not_lose_the_report(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        notify = f"http://127.0.0.1:{silent.getsockname()[1]}/hook"
        environ = {**os.environ, "KRONOS_NOTIFY": notify, "KRONOS_HORIZON": "abc"}
        running = commands.piped("tradingbot.kronosbot", "run", "--json", cwd=tmp_path, env=environ)
        connection, _ = silent.accept()
        running.terminate()
        connection.close()
        again, _ = silent.accept()
        again.close()
        out, err = running.communicate(timeout=60)
    assert running.returncode == 143
    assert json.loads(out)["error"]["kind"] == "ConfigError", err


def test_a_wrong_address_ends_a_run_before_anything_is_done(tmp_path: Path) -> None:
    done = kronosbot("run", "--local", folder=tmp_path, KRONOS_NOTIFY="nonsense://s3cret")
    assert (done.returncode, "KRONOS_NOTIFY" in done.stderr) == (2, True)
    assert "s3cret" not in done.stderr + done.stdout
    assert not (tmp_path / "kronos.db").exists()


def test_notify_sends_a_test_message(tmp_path: Path) -> None:
    with notification_server() as box:
        sent = kronosbot("notify", "--test", folder=tmp_path, KRONOS_NOTIFY=f"ntfy+{box.url}/t")
        assert (sent.returncode, sent.stdout) == (
            0, "Sent to the ntfy of KRONOS_NOTIFY: check that it arrived\n",
        )  # fmt: skip
        assert box.posts[0].body["title"] == "kronosbot test: notifications arrive here"
        box.answers.append(403)
        refused = kronosbot("notify", "--test", folder=tmp_path, KRONOS_NOTIFY=f"{box.url}/s3cret")
        assert refused.returncode == 1
        assert refused.stderr.startswith(
            "Error: KRONOS_NOTIFY (webhook): the message was not taken: it answered 403"
        )
        assert "s3cret" not in refused.stderr
    for arguments, words in ((["--test"], "KRONOS_NOTIFY is not set"), ([], "give --test")):
        done = kronosbot("notify", *arguments, folder=tmp_path)
        assert done.returncode == 2
        assert words in done.stderr
