"""Measure `/health` response times on new connections until stdin ends, as a separate process.

python -m tests.support.watcher 127.0.0.1 7860     prints the seconds as JSON; null: no answer
"""

import json
import sys
import threading
import time
from http.client import HTTPConnection, HTTPException


def asked(host: str, port: int) -> float | None:
    """Return the seconds that one answer took, or None without an answer."""
    began = time.monotonic()
    connection = HTTPConnection(host, port, timeout=30)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        answer.read()
        return time.monotonic() - began if answer.status == 200 else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def main() -> None:
    """Send a request every 20 ms, at least one in all."""
    done = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), done.set()), daemon=True).start()
    host, port = sys.argv[1], int(sys.argv[2])
    seconds = [asked(host, port)]
    while not done.wait(0.02):
        seconds.append(asked(host, port))
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()
