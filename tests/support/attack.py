"""Attack a real Space and check that it keeps answering within bounded memory.

    make fuzz FUZZ="--attack"     or: python -m tests.support.attack

Each attack runs against its own Space while `/health` is requested on new connections. The report
shows the status codes that the attackers got, the peak memory of the process and the 99th
percentile of the `/health` response times.
"""

import json
import select
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests

from kronos_space.settings import Settings
from tests.support.candles import bars, request
from tests.support.space_server import Server, serving, until

MEMORY_MB = 1500
HEALTH_MS = 250
ANSWER_SECONDS = 3.0
SHUTDOWN_SECONDS = 5
MIB = 2**20
FEW_DESCRIPTORS = """
import resource, sys
from kronos_space import __main__
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 256))
sys.exit(__main__.main())
"""

Attack = Callable[[Server, Counter[str]], str]  # returns a description of what went wrong, or ""


@dataclass
class Watch:
    """Measure the response times of `/health`; a request without an answer counts as infinite.

    Another process sends the requests: in this process they would wait for the attackers' threads.
    """

    address: tuple[str, int]
    seconds: list[float] = field(default_factory=list)

    @contextmanager
    def running(self) -> Iterator[None]:
        host, port = self.address
        command = [sys.executable, "-m", "tests.support.watcher", host, str(port)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            try:
                yield
            finally:
                printed, _ = process.communicate()
        self.seconds = [inf if took is None else took for took in json.loads(printed)]

    def p99_ms(self) -> float:
        return 1000 * sorted(self.seconds)[(len(self.seconds) * 99 - 1) // 100]


def main() -> int:
    """Run the attacks; return exit status 1 if a bound did not hold."""
    print(f"{'attack':44} {'peak MB':>8} {'health p99 ms':>14}  answers")
    failed = [name for name, attack in ATTACKS.items() if not run(name, attack)]
    print(f"failed: {', '.join(failed)}" if failed else "all bounds hold")
    return 1 if failed else 0


def run(name: str, attack: Attack, **environ: str) -> bool:
    """Run one attack and print its line; return whether the bounds hold."""
    answers: Counter[str] = Counter()
    with TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        environ = {"KRONOS_SHUTDOWN_TIMEOUT": str(SHUTDOWN_SECONDS), **environ}
        command = ("-c", FEW_DESCRIPTORS) if attack is idle_connections else ()
        with serving(log, command=command, **environ) as server:
            watch = Watch(server.address)
            with watch.running():
                wrong = attack(server, answers)
            peak = peak_mb(server.process.pid)
            if len(log.read_bytes()) > MIB:
                wrong = wrong or f"{len(log.read_bytes()) // MIB} MiB of log"
            began = time.monotonic()
            status, _ = server.stop()
            took = time.monotonic() - began
    if status != 0 or took > SHUTDOWN_SECONDS + 3:
        wrong = wrong or f"SIGTERM: status {status} after {took:.1f} s"
    shown = ", ".join(f"{count} x {answer}" for answer, count in sorted(answers.items()))
    p99 = watch.p99_ms()
    print(f"{name:44} {peak:8.0f} {p99:14.0f}  {shown}{'; ' + wrong if wrong else ''}", flush=True)
    return not wrong and peak <= MEMORY_MB and p99 <= HEALTH_MS


def peak_mb(pid: int) -> float:
    """Return the peak resident memory of the process in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


def post(server: Server, body: bytes, answers: Counter[str], path: str = "/predict") -> None:
    """Send a body and count the status of the answer."""
    try:
        headers = {"Content-Type": "application/json", "Accept": "application/json, */*"}
        answer = requests.post(server.url + path, data=body, headers=headers, timeout=120)
        answers[str(answer.status_code)] += 1
    except requests.RequestException as error:
        answers[type(error).__name__] += 1


def with_field(name: str, value: bytes) -> bytes:
    return json.dumps(request())[:-1].encode() + b', "%s": %s}' % (name.encode(), value)


def sending(
    bodies: Callable[[], list[bytes]], path: str = "/predict", times: int = 4, callers: int = 1
) -> Attack:
    """Send each body `times` times from `callers` threads; `bodies` is called at that time."""

    def attack(server: Server, answers: Counter[str]) -> str:
        with ThreadPoolExecutor(callers) as pool:
            for body in bodies() * times:
                pool.submit(post, server, body, answers, path)
        return "" if set(answers) <= {"200", "413", "422", "429"} else "an answer that is none"

    return attack


def many_ones(mib: int) -> bytes:
    return with_field("target_timestamps", b"[" + b"1," * (mib * MIB // 2) + b"1]")


def batch_of(*items: bytes) -> bytes:
    return b'{"requests":[' + b",".join(items) + b"]}"


def unknown_keys(mib: int) -> bytes:
    keys = b",".join(b'"k%d":1' % number for number in range(mib * MIB // 12))
    return json.dumps(request())[:-1].encode() + b"," + keys + b"}"


def wide_rows(mib: int) -> bytes:
    row = json.dumps(bars()[0]).encode()[:-1]
    keys = b",".join(b'"k%d":1' % number for number in range(200))
    return with_field("ohlcv", b"[" + b",".join([row + b"," + keys + b"}"] * (mib * 600)) + b"]")


def idle_connections(server: Server, answers: Counter[str]) -> str:
    """Hold too many connections, each with half a header, and call the Space meanwhile."""
    held = []
    try:
        for number in range(700):
            try:
                held.append(socket.create_connection(server.address, timeout=10))
                held[-1].sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Slow")
            except OSError:
                answers["refused"] += 1
            if number % 100 == 0:
                post(server, json.dumps(request()).encode(), answers)
        answers["held"] = len(held)
        time.sleep(2)
        post(server, json.dumps(request()).encode(), answers)
    finally:
        for connection in held:
            connection.close()
    return "" if answers["200"] == 8 else "not all callers were served"


def chunks_of_a_byte(server: Server, answers: Counter[str]) -> str:
    """Send bodies in chunks of one byte each, from twenty callers."""
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"1\r\n%c\r\n" % byte for byte in json.dumps(request()).encode() * 10)

    def send() -> None:
        with socket.create_connection(server.address, timeout=120) as connection:
            connection.sendall(head + body + b"0\r\n\r\n")
            answers[connection.recv(65_536).split()[1].decode()] += 1

    with ThreadPoolExecutor(20) as pool:
        for _ in range(40):
            pool.submit(send)
    return "" if answers["422"] == 40 else "not all callers were answered"


def many_headers(server: Server, answers: Counter[str]) -> str:
    """Send heads of thousands of lines from forty callers."""
    head = b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 3900 + b"\r\n"

    def send() -> None:
        with socket.create_connection(server.address, timeout=120) as connection:
            try:
                connection.sendall(head)
                answers[connection.recv(65_536).split()[1].decode()] += 1
            except ConnectionError:  # refused before all of it was sent
                answers["reset"] += 1

    with ThreadPoolExecutor(40) as pool:
        for _ in range(1000):
            pool.submit(send)
    return "" if answers.keys() <= {"431", "reset"} else "not all callers were refused"


def many_trailers(server: Server, answers: Counter[str]) -> str:
    """Send trailers of thousands of lines from forty callers."""
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    request = head + b"2\r\n{}\r\n0\r\n" + b"a:\r\n" * 3900 + b"\r\n"

    def send() -> None:
        with socket.create_connection(server.address, timeout=120) as connection:
            try:
                connection.sendall(request)
                received = connection.recv(65_536).split()
                answers[received[1].decode() if received else "closed"] += 1
            except ConnectionError:  # refused before all of it was sent
                answers["reset"] += 1

    with ThreadPoolExecutor(40) as pool:
        for _ in range(1000):
            pool.submit(send)
    return "" if answers.keys() <= {"431", "closed", "reset"} else "not all callers were refused"


def unread_answers(server: Server, answers: Counter[str]) -> str:
    """Request the largest file on five hundred connections, and read nothing."""
    held = []
    for _ in range(500):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(30)
        connection.connect(server.address)
        connection.sendall(b"GET /static/plotly.min.js HTTP/1.1\r\nHost: x\r\n\r\n")
        held.append(connection)
        select.select([connection], [], [], 30)  # until the answer begins
    for _ in range(5):
        post(server, json.dumps(request()).encode(), answers)
    for connection in held:
        connection.close()
    return "" if answers["200"] == 5 else "not all callers were served"


def calls_of_mcp() -> list[bytes]:
    """Return calls with as many values as are allowed, and with nothing to answer."""
    arguments = [
        {"ohlcv": [1] * 40_000},
        {"ohlcv": bars(4096)},
        {f"k{number}": 1 for number in range(40_000)},
    ]
    messages: list[dict[str, Any]] = [
        {"method": "tools/call", "params": {"name": "forecast", "arguments": each}}
        for each in arguments
    ]
    messages.append({"method": "x" * MIB})
    return [json.dumps({"jsonrpc": "2.0", "id": 1, **each}).encode() for each in messages]


def largest(bars_each: int) -> bytes:
    """Return the largest allowed batch request, in 256 series."""
    most = Settings().max_work // 256 - bars_each
    samples = most // 100
    items = [
        json.dumps(request(symbol=f"T{n}", ohlcv=bars(bars_each), samples=samples, horizon=100))
        for n in range(256)
    ]
    return batch_of(*map(str.encode, items))


def small_next_to_large(bars_each: int, callers: int) -> Attack:
    """Repeat the largest request from many callers, and send small ones from another."""

    def attack(server: Server, answers: Counter[str]) -> str:
        large = largest(bars_each)
        done = threading.Event()

        def send() -> None:
            while not done.is_set():
                post(server, large, answers, "/predict/batch")

        # not joined: these requests must be in flight when the Space gets the signal to stop
        for _ in range(callers):
            threading.Thread(target=send, daemon=True).start()
        until(lambda: server.metric("kronos_running_series") > 0)
        took: list[float] = []
        small: Counter[str] = Counter()
        for _ in range(10):
            began = time.monotonic()
            post(server, json.dumps(request(samples=20)).encode(), small)
            took.append(time.monotonic() - began)
        busy = server.metric("kronos_running_series") > 0
        done.set()
        answers["small 200"] = small["200"]
        answers[f"slowest {max(took):.1f} s"] = 1
        if not busy:
            return "the engine was not busy to the end"
        if small["200"] < len(took):
            return f"one ticker was answered {dict(small)}"
        return f"one ticker waited {max(took):.1f} s" if max(took) > ANSWER_SECONDS else ""

    return attack


def full_batch() -> bytes:
    item = json.dumps(request(ohlcv=bars(1000), samples=1)).encode()
    return batch_of(*[item] * (31 * MIB // len(item)))


ATTACKS: dict[str, Attack] = {
    "target_timestamps of ones, 1 MiB": sending(lambda: [many_ones(1)], times=20),
    "target_timestamps of ones, 8 MiB": sending(lambda: [many_ones(8)], times=8),
    "target_timestamps of ones, 31 MiB": sending(lambda: [many_ones(31)]),
    "the same, three callers": sending(lambda: [many_ones(31)], times=6, callers=3),
    "unknown keys, 1 and 31 MiB": sending(lambda: [unknown_keys(1), unknown_keys(31)]),
    "rows with unknown keys, 2 and 20 MiB": sending(lambda: [wide_rows(1), wide_rows(10)]),
    "huge integers": sending(
        lambda: [
            with_field("seed", b"9" * 4000),
            with_field("seed", b"9" * MIB),
            with_field("quantiles", b"[" + b",".join([b"9" * 4000] * 2000) + b"]"),
        ],
        path="/predict",
    ),
    "deep and dense JSON": sending(
        lambda: [
            b"[" * 20 * MIB,
            with_field("quantiles", b"[" + b"[]," * (8 * MIB) + b"1]"),
            with_field("symbol", b'{"a":' * 100 + b"1" + b"}" * 100),
            with_field("symbol", b'"' + b'\\"' * (12 * MIB) + b'"'),
        ],
    ),
    "batches of wrong items": sending(
        lambda: [
            batch_of(*[b"1"] * (15 * MIB)),
            batch_of(*[many_ones(1)[: MIB // 10] + b"1]}"] * 256),
            batch_of(*[unknown_keys(1)[: MIB // 10] + b":1}"] * 256),
            b'{"requests":[],' + unknown_keys(31)[1:],
        ],
        path="/predict/batch",
    ),
    "many small bodies, 200 callers": sending(lambda: [many_ones(1)], times=400, callers=200),
    "many large bodies, 24 callers": sending(
        lambda: [full_batch(), many_ones(31)], path="/predict/batch", times=24, callers=24
    ),
    "bodies in chunks of a byte, 20 callers": chunks_of_a_byte,
    "heads of 3,900 lines, 40 callers": many_headers,
    "trailers of 3,900 lines, 40 callers": many_trailers,
    "answers that 500 callers do not read": unread_answers,
    "calls of /mcp, 20 callers": sending(calls_of_mcp, "/mcp", times=20, callers=20),
    "idle connections beyond the descriptors": idle_connections,
    "one ticker beside the largest request": small_next_to_large(40, 1),
    "one ticker beside the largest histories": small_next_to_large(500, 3),
}

if __name__ == "__main__":
    sys.exit(main())
