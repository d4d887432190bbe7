"""Limits on file descriptors, on connections below them, and on what each connection stores."""

import resource
import socket
from contextlib import suppress

MAX_CONNECTIONS = 4096  # each may hold an incomplete head, and 256 KiB of unparsed bytes
SPARE = 64  # descriptors for everything else: logs, weights, libraries
PENDING = 16  # connections that asyncio accepts at a time
# Bytes of an answer that the system stores for each connection until the caller reads them. By
# default it grows to megabytes: a few hundred callers that read nothing stop the whole machine.
UNREAD = 2**18
ROUNDS = 4  # accepts before the first connection over the limit is closed


class Listener(socket.socket):
    """A listening socket with a long queue of connections that are not accepted yet.

    asyncio accepts as many at a time as its `backlog`. That must be small, since each one takes a
    file descriptor.
    """

    def listen(self, backlog: int = 0, /) -> None:
        super().listen(max(backlog, socket.SOMAXCONN))


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one. Return how many connections it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # not every system allows it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return connections(soft)


def connections(descriptors: int) -> int:
    """Return how many connections this many file descriptors allow."""
    if descriptors == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(1, min(MAX_CONNECTIONS, descriptors - SPARE - ROUNDS * PENDING))
