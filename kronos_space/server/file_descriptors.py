"""File descriptors: as many as the system allows, and fewer connections than that."""

import resource
import socket
from contextlib import suppress

MOST = (
    4096  # connections; each may hold a head that is not complete, and 256 KiB that wait to be read
)
SPARE = 64  # descriptors for all else: the log, the weights, what libraries open
PENDING = 16  # connections that asyncio takes at once
ROUNDS = 4  # of taking, until the first that is one too many is closed


class Listener(socket.socket):
    """Has a long queue of connections that nobody has taken yet.

    asyncio takes as many at once as its `backlog`, which must be few: each is a descriptor.
    """

    def listen(self, backlog: int = 0, /) -> None:
        super().listen(max(backlog, socket.SOMAXCONN))


def raise_limit() -> int:
    """Raise the soft limit of open files to the hard one; how many connections it allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # not everywhere may a process do this
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return connections(soft)


def connections(descriptors: int) -> int:
    """How many connections so many descriptors are enough for."""
    if descriptors == resource.RLIM_INFINITY:
        return MOST
    return max(1, min(MOST, descriptors - SPARE - ROUNDS * PENDING))
