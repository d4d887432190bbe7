"""Run Debian's pgbouncer in front of a Postgres of the tests; run this module to install it."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, urlsplit

from tests.support.debian import installed
from tradingbot.space.local import free_port

MISSING = "no pgbouncer for the tests of the locks: install Debian's (apt-get install pgbouncer)"


def pgbouncer() -> str:
    """Return pgbouncer's path. Raises FileNotFoundError with instructions if it is missing."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise FileNotFoundError(MISSING)
    return found


@contextmanager
def pooled(server_url: str, *, mode: str = "transaction", size: int = 4) -> Iterator[str]:
    """Yield the database's URL through a pgbouncer with `size` server sessions."""
    parts = urlsplit(server_url)
    [folder] = parse_qs(parts.query)["host"]
    database, port = parts.path.lstrip("/"), free_port()
    with TemporaryDirectory(prefix="kronos-pgbouncer-") as own:
        Path(own).chmod(0o755)
        config = Path(own, "pgbouncer.ini")
        config.write_text(
            f"[databases]\n{database} = host={folder} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = {mode}\ndefault_pool_size = {size}\n"
            "min_pool_size = 0\nmax_client_conn = 200\n"
        )
        # pgbouncer refuses to run as root; Postgres's user may enter the folder of its socket
        user = Path(folder).stat().st_uid if os.geteuid() == 0 else None
        with subprocess.Popen(
            [pgbouncer(), "-q", str(config)], user=user, stderr=subprocess.DEVNULL
        ) as process:
            try:
                _wait_for(port, process)
                yield f"postgresql://anybody@127.0.0.1:{port}/{database}"
            finally:
                process.kill()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError("pgbouncer does not listen")


if __name__ == "__main__":
    sys.exit(installed(pgbouncer, "pgbouncer", purpose="the tests of the locks"))
