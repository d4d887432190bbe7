"""Generate thousands of hostile answers of a Space and of a Hub, and try them on the real clients.

    make fuzz FUZZ="--attack"
    python -m tests.support.hostile --space 2000 --hub 500 --seed 7

Whatever the answer, a client may raise only a KronosError of one line, must return within its
time-out, and must not produce an impossible forecast, neither as an object nor as a row.
"""

import argparse
import json
import random
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, Self

import pandas as pd
from sqlalchemy import text

from tests.support.hub_api import REPO, TOKEN
from tradingbot.errors import KronosError
from tradingbot.forecast import QUANTILE_LEVELS, Forecast
from tradingbot.persistence.engine import get_db_session, init_db
from tradingbot.persistence.forecasts import store_forecasts
from tradingbot.settings import Timeouts
from tradingbot.space.address import SpaceAddress
from tradingbot.space.client import SpaceClient
from tradingbot.space.hub import HubSpace
from tradingbot.space.wire import SeriesRequest, prepare

Piece = bytes | float  # bytes to send, or seconds to wait
Answer = Callable[[], Iterator[Piece]]

QUICK = Timeouts(
    space_connect=2,
    space_health=0.3,
    space_answer=0.3,
    space_backoff=0.001,
    space_retry_after=0.01,
    hub_connect=0.1,
    hub_answer=0.2,
    hub_backoff=0.001,
    hub_retry_after=0.01,
    hub_pause_shown=0.02,
    hub_pause=0.1,
)
LATEST = 20.0  # seconds after which a call has ended, even on the slowest machine


class HostileServer(ThreadingTCPServer):
    """A server that sends `answer` to every request, whether or not it is valid HTTP."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Answer = lambda: iter(())
        self.heads: list[bytes] = []  # of the requests
        self.sent = 0  # bytes
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *args: Any) -> None:
        pass  # the caller closed the connection


class _Handler(StreamRequestHandler):
    server: HostileServer
    timeout = 30

    def handle(self) -> None:
        head, length = b"", 0
        for line in self.rfile:
            head += line
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
            if not line.strip():
                break
        self.rfile.read(length)
        self.server.heads.append(head)
        for piece in self.server.answer():
            if isinstance(piece, float):
                time.sleep(piece)
            else:
                self.wfile.write(piece)
                self.server.sent += len(piece)


# invalid HTTP -----------------------------------------------------------------------------------


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Return a correct HTTP answer with this body."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def dripping(data: bytes, pause: float = 0.02) -> Iterator[Piece]:
    """Yield `data` a byte at a time, then its last byte for ever."""
    while True:
        yield data[:1]
        yield pause
        data = data[1:] or data


def endless(head: bytes, piece: bytes) -> Iterator[Piece]:
    """Yield `head`, then `piece` until the caller closes the connection."""
    yield head
    while True:
        yield piece


@cache
def bomb() -> bytes:
    """Return a gigabyte of blanks, compressed to 1 MB of gzip."""
    packer = zlib.compressobj(9, wbits=31)
    first, other = (
        packer.compress(b" " * 2**20) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)
    )
    return first + other * 1023


OPEN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def transports(good: bytes, elsewhere: str) -> dict[str, Answer]:
    """Return the faults below the JSON layer, by name."""
    whole = http(good)
    chunked = OPEN + b"Transfer-Encoding: chunked\r\n\r\n"
    packed = "Content-Encoding: gzip"
    once: dict[str, bytes] = {
        "nothing": b"",
        "no HTTP": b"hello\r\n\r\n",
        "status of letters": whole.replace(b"200", b"abc", 1),
        "status 999": whole.replace(b"200", b"999", 1),
        "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
        "not modified": b"HTTP/1.1 304 Not Modified\r\n\r\n",
        "cut": whole[:-9],
        "cut in the head": whole[:30],
        "longer than it says": whole + b"x" * 999,
        "length of letters": OPEN + b"Content-Length: abc\r\n\r\n" + good,
        "length below zero": OPEN + b"Content-Length: -5\r\n\r\n" + good,
        "two lengths": OPEN + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\n" + good,
        "length of 400 digits": OPEN + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n" + good,
        "chunk of letters": chunked + b"zz\r\n" + good,
        "chunk without an end": chunked + b"ffffffffffffffffff\r\n" + good,
        "chunk below zero": chunked + b"-5\r\n" + good,
        "gzip that is none": http(good, "200 OK", packed),
        "gzip bomb": http(bomb(), "200 OK", packed),
        "gzip in gzip": http(zlib.compress(bomb()), "200 OK", "Content-Encoding: gzip, deflate"),
        "unknown encoding": http(good, "200 OK", "Content-Encoding: \x1b[31mbr"),
        "head of binary": OPEN + b"X-\x00\xff: \x1b[31m\x9b\r\n\r\n" + good,
        "charset of nonsense": http(good, "200 OK", "Content-Type: application/json; charset=zz"),
        "1000 cookies": http(good, "200 OK", *(f"Set-Cookie: a{i}=b" for i in range(1000))),
        "500 that is long": http(b"x" * 2_000_000, "500 Oops"),
        "error in error": http(b'{"error":{"message":{"a":["\\ud800\\u001b[31m"]}}}', "422 No"),
        "error of depth": http(b'{"error":' + b"[" * 100_000, "422 No"),
        "busy for ever": http(b"", "429 Wait", f"Retry-After: {'9' * 400}"),
        "away for ever": http(b"", "503 Wait", "Retry-After: 99999999"),
        "wait for a date": http(b"", "503 Wait", "Retry-After: \xb2"),
        **{
            f"redirect {status}": http(b"", f"{status} Go", f"Location: {elsewhere}/x")
            for status in (301, 302, 303, 307, 308)
        },
        "redirect to nonsense": http(b"", "307 Go", "Location: http://[::1\x1b"),
        "redirect without a place": http(b"", "307 Go"),
    }
    return {name: partial(lambda data: iter([data]), data) for name, data in once.items()} | {
        "drips": lambda: dripping(whole),
        "drips its head": lambda: dripping(OPEN),
        "drips its body": lambda: iter([OPEN, b"\r\n", *_first(dripping(b" "), 5000)]),
        "drips chunks": lambda: iter([chunked, *[b"1\r\n \r\n", 0.02] * 5000]),
        "drips an error": lambda: iter([b"HTTP/1.1 422 No\r\n\r\n", *_first(dripping(b"x"), 5000)]),
        "says nothing": lambda: iter([1.0]),
        "endless body": lambda: endless(OPEN + b"\r\n", b" " * 65536),
        "endless chunks": lambda: endless(chunked, b"10000\r\n" + b" " * 65536 + b"\r\n"),
        "endless error": lambda: endless(b"HTTP/1.1 500 No\r\n\r\n", b"x" * 65536),
        "endless head": lambda: endless(OPEN, b"X-A: b\r\n" * 999),
        "endless line of the head": lambda: endless(OPEN + b"X: ", b"x" * 65536),
        "endless trailers": lambda: endless(chunked + b"0\r\n", b"X-A: b\r\n" * 999),
        "endless 100": lambda: endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 99),
    }


def _first(pieces: Iterator[Piece], number: int) -> Iterator[Piece]:
    return (piece for piece, _ in zip(pieces, range(number), strict=False))


# prefixes of the names of attacks that last until a time-out
SLOW = ("drips", "says nothing", "endless 100", "endless trailers")

# JSON with a wrong value ------------------------------------------------------------------------

DEEP = 100_000
LITERALS = [
    *("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e308", "-1e308", "5e-324", "1e-300"),
    *("0", "-0.0", "-5", "1", "2", "5", "0.5", "1e6", "1e12", "true", "false", "null"),
    *("9" * 19, "9" * 20, "9" * 400, "9" * 5000, "-" + "9" * 400, "1." + "3" * 5000),
    *('""', '"12.5"', '"nan"', '"true"', '"\\u0000"', '"m\\u0000"', '"\\ud800"', '"\\udfff m"'),
    *('"\\u001b[31mred"', '"\\u009b31m"', '"\\u202eabc"', '"\\u2028"', '"a\\nb"', '"\xff"'),
    *('"' + "x" * 10_000 + '"', '"' + "\\u001b" * 5000 + '"', "[]", "{}", "[1]", '{"a":1}'),
    *("[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP, "[" * 500 + "]" * 500),
    *('"9999-12-31T23:59:59"', '"0001-01-01T00:00:00"', '"2013-02-30T00:00:00"', '"tomorrow"'),
    *('"9999-12-31T23:59:59-05:00"', '"0001-01-01T00:00:00+05:00"', '"2024-01-01T00:00:00\u00b2"'),
    *('"2024-01-01T00:00:00+99:99"', '"-1"', '"1e400"', "nonsense", "'", '"\\x"', '"unterminated'),
    "[" + ",".join(["{}"] * 5000) + "]",
    "{" + ",".join(f'"{i}":"x"' for i in range(5000)) + "}",
]
MARK = "@@"


def good_result(request: SeriesRequest) -> dict[str, Any]:
    """Return the result of a correct Space."""
    close = request.last_close
    return {
        "ok": True,
        "symbol": request.symbol,
        "model": "kronos-nano",
        "model_revision": None,
        "interval": request.interval,
        "as_of": request.as_of.isoformat(),
        "last_close": close,
        "reconstruction": {"close": close * 1.01, "factor": 1 / 1.01},
        "samples": request.samples,
        "seed": request.seed,
        "predictions": [
            {
                "step": step,
                "target_date": date.isoformat(),
                **{"open": close, "high": close * 1.2, "low": close * 0.8, "close": close * 1.01},
                "volume": 1e6,
                "close_quantiles": {
                    str(level): close * (0.9 + level / 5) for level in QUANTILE_LEVELS
                },
                "prob_up": 0.5,
            }
            for step, date in enumerate(request.targets, start=1)
        ],
        "warnings": [],
    }


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Return the path of every value in a JSON document, as keys and indices."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(child, (*path, key))


def _any_place(rng: random.Random, document: Any) -> tuple[Any, ...]:
    """Draw a path; each field is equally likely, however often it occurs."""
    fields: dict[str, list[tuple[Any, ...]]] = {}
    for path in places(document):
        names = [key for key in path if isinstance(key, str)]
        fields.setdefault(".".join(names[:2] + ["…"] * (len(names) > 2)), []).append(path)
    return rng.choice(fields[rng.choice(list(fields))])


def with_literal(document: dict[str, Any], path: tuple[Any, ...], literal: str) -> str:
    """Return the document's JSON with `literal` in one place."""
    document = json.loads(json.dumps(document))
    _holder(document, path)[path[-1]] = MARK
    return json.dumps(document).replace(f'"{MARK}"', literal)


def _holder(document: Any, path: tuple[Any, ...]) -> Any:
    for key in path[:-1]:
        document = document[key]
    return document


def _without(document: dict[str, Any], path: tuple[Any, ...]) -> str:
    document = json.loads(json.dumps(document))
    del _holder(document, path)[path[-1]]
    return json.dumps(document)


def _twisted(rng: random.Random, result: dict[str, Any]) -> str:
    """Draw a forecast whose fields contradict each other or the request."""
    result = json.loads(json.dumps(result))
    bars, bar = result["predictions"], rng.choice(result["predictions"])
    quantiles = bar["close_quantiles"]
    factor = rng.choice([1e-12, 1e-3, 1.0001, 1.01, 1e4, 1e9, 1e300])
    twists: list[Callable[[], object]] = [
        lambda: bar.update(high=bar["close"] * rng.choice([0.1, 0.999, 1 - 1e-9])),
        lambda: bar.update(low=bar["open"] * rng.choice([1.1, 1.3, 1 + 1e-9])),
        lambda: bar.update(high=bar["low"], low=bar["high"]),
        lambda: quantiles.update({"0.1": quantiles["0.9"], "0.9": quantiles["0.1"]}),
        lambda: bar.update(close_quantiles=dict(zip(quantiles, [5.0] * 19, strict=True))),
        lambda: bar.update(close_quantiles={f"{k}0": v for k, v in quantiles.items()}),
        lambda: quantiles.update({"0.10": 1.0}),
        lambda: quantiles.update({rng.choice(["nan", "", "1e400", "9" * 999, "\ud800"]): 1.0}),
        lambda: bar.update({name: bar[name] * factor for name in ("open", "high", "low", "close")}),
        lambda: bar.update(close_quantiles={k: v * factor for k, v in quantiles.items()}),
        lambda: bars.reverse(),
        lambda: bars.append(bars[-1]),
        lambda: bars.insert(0, bars[0]),
        lambda: bar.update(target_date=rng.choice(bars)["target_date"]),
        lambda: bar.update(step=bar["step"] + 1),
        lambda: result.update(last_close=result["last_close"] * factor),
        lambda: result.update(seed=result["seed"] + 1),
        lambda: result.update(samples=result["samples"] + 1),
        lambda: result.update(symbol=result["symbol"] + "X"),
        lambda: result.update(interval="1h"),
        lambda: result.update(as_of=bars[0]["target_date"]),
    ]
    rng.choice(twists)()
    return json.dumps(result)


def _enveloped(rng: random.Random, items: list[str]) -> bytes:
    """Draw a batch answer whose results do not match the requests."""
    whole = f'{{"results":[{",".join(items)}]}}'
    return rng.choice(
        [
            lambda: f'{{"results":[{",".join(reversed(items))}]}}'.encode(),
            lambda: f'{{"results":[{",".join(items[1:])}]}}'.encode(),
            lambda: f'{{"results":[{",".join([*items, items[0]])}]}}'.encode(),
            lambda: f'{{"results":[{",".join([items[0]] * len(items))}]}}'.encode(),
            lambda: f'{{"results":{rng.choice(LITERALS)}}}'.encode(),
            lambda: rng.choice(LITERALS).encode(),
            lambda: whole.encode("utf-16"),
            lambda: b"\xef\xbb\xbf" + whole.encode(),
            lambda: whole.replace("kronos", "kr\udcff", 1).encode("utf-8", "surrogateescape"),
            lambda: whole.encode()[: rng.randrange(len(whole))],
            lambda: b"<html>hello</html>",
            lambda: b'{"results":["' + b'\\"' * 100_000,
            lambda: whole.replace(":", ":" + " " * 100).encode(),
        ]
    )()


@dataclass(frozen=True)
class Attack:
    name: str
    answer: Answer
    victim: int | None = None  # the only ticker that may fail; None: all may fail


def attack_of_a_space(
    rng: random.Random, requests: list[SeriesRequest], elsewhere: str, *, slow: bool = True
) -> Attack:
    """Draw the answer of a Space to these requests."""
    results = [good_result(request) for request in requests]
    items = [json.dumps(result) for result in results]
    victim = rng.randrange(len(items))
    where = _any_place(rng, results[victim])
    literal = rng.choice(LITERALS)
    kind = rng.choices(["literal", "twist", "missing", "envelope", "http"], [50, 20, 5, 10, 15])[0]
    if kind == "http":
        body = f'{{"results":[{",".join(items)}]}}'.encode()
        return _any_transport(rng, body, elsewhere, slow)
    if kind == "envelope":
        body = _enveloped(rng, items)
        return Attack(kind, lambda: iter([http(body)]))
    items[victim] = {
        "literal": lambda: with_literal(results[victim], where, literal),
        "twist": lambda: _twisted(rng, results[victim]),
        "missing": lambda: _without(results[victim], where),
    }[kind]()
    body = f'{{"results":[{",".join(items)}]}}'.encode("utf-8", "surrogatepass")
    # an unclosed string swallows what follows; a body as long as a bomb is refused
    spoils_all = literal in ("'", '"unterminated') and kind == "literal"
    name = f"{kind} {'.'.join(map(str, where))}={literal[:20]}"
    return Attack(name, lambda: iter([http(body)]), None if spoils_all else victim)


def _any_transport(rng: random.Random, body: bytes, elsewhere: str, slow: bool) -> Attack:
    made = transports(body, elsewhere)
    names = [name for name in made if slow or not name.startswith(SLOW)]
    name = rng.choice(names)
    return Attack(name, made[name])


# the Hub ----------------------------------------------------------------------------------------

RUNTIME = {
    "stage": "PAUSED",
    "hardware": {"current": "cpu-basic", "requested": "cpu-basic"},
    "storage": None,
    "gcTimeout": 172800,
}
INFO = {"id": REPO, "private": True, "subdomain": "someone-kronos"}
WORDS = [
    '{"error":"no \\u001b[31mquota\\u009b left"}',
    '{"error":["a",{"b":1}]}',
    '{"error":{"message":["x"]}}',
    '{"errors":5}',
    '{"errors":[1,"message",{"message":null}]}',
    '{"error_description":"\\ud800"}',
    '{"error":"' + "x" * 100_000 + '"}',
    '["error"]',
    "[" * DEEP,
    "nonsense \x1b[31m",
]


def attack_of_a_hub(rng: random.Random, elsewhere: str, *, slow: bool = True) -> Attack:
    """Draw the answer of a Hub to any call."""
    document = rng.choice([RUNTIME, INFO])
    kind = rng.choice(["literal", "refusal", "log", "http"])
    if kind == "http":
        return _any_transport(rng, json.dumps(RUNTIME).encode(), elsewhere, slow)
    if kind == "literal":
        where, literal = _any_place(rng, document), rng.choice(LITERALS)
        body = with_literal(document, where, literal).encode("utf-8", "surrogatepass")
        name = f"{'.'.join(map(str, where))}={literal[:20]}"
        return Attack(name, lambda: iter([http(body)]))
    if kind == "log":
        events = [f'data: {{"data":{rng.choice(LITERALS)},"timestamp":""}}' for _ in range(5)]
        log = "\n\n".join([*events, "data: {", "data: {}", ""]).encode("utf-8", "surrogatepass")
        return Attack(kind, lambda: iter([http(log, "200 OK", "Content-Type: text/event-stream")]))
    status = rng.choice([*range(400, 430), 451, 500, 502, 503, 504, 599, 600])
    headers = rng.sample(
        [
            "X-Error-Message: \x1b[31mno\x9b",
            "X-Error-Code: RepoNotFound",
            "X-HF-Warning: a; \x1b[31mwarned",
            f'RateLimit: "api";r=0;t={"9" * 30}',
            f"Retry-After: {'9' * 400}",
            "X-Request-Id: \x1b]0;title\x07",
        ],
        k=2,
    )
    words = rng.choice(WORDS).encode("utf-8", "surrogatepass")
    return Attack(f"{kind} {status}", lambda: iter([http(words, f"{status} No", *headers)]))


# run the attacks --------------------------------------------------------------------------------

Tried = list[str]  # descriptions of violations


def try_space(number: int, seed: int, *, slow: bool = True) -> tuple[Counter[str], Tried]:
    """Run `number` attacks of a Space; return their outcomes and all violations."""
    outcomes: Counter[str] = Counter()
    faults: Tried = []
    days = pd.bdate_range("2024-01-02", periods=40).as_unit("us")
    bars = pd.DataFrame(dict.fromkeys(["open", "high", "low", "close", "volume"], 100.0), days)
    with (
        TemporaryDirectory() as folder,
        HostileServer() as server,
        HostileServer() as elsewhere,
    ):
        database = f"sqlite:///{Path(folder) / 'stored.db'}"
        init_db(database)
        client = SpaceClient(SpaceAddress(server.url, api_key="a-secret", timeouts=QUICK))
        stored: list[Forecast] = []
        for turn in range(number):
            rng = random.Random(f"{seed} {turn}")
            requests = [
                prepare(f"{name}{turn}", bars, horizon=3, interval="1d", samples=50)
                for name in ("A", "B", "C")
            ]
            attack = attack_of_a_space(rng, requests, elsewhere.url, slow=slow)
            server.answer = attack.answer
            where = f"attack {turn} of seed {seed} ({attack.name})"
            began = time.monotonic()
            try:
                answers = [a for batch in client.forecast_batches(requests) for _, a in batch]
                _ask_about(client)
            except Exception as error:
                faults.append(f"{where}: raised {type(error).__name__}: {error}")
                continue
            if time.monotonic() - began > LATEST:
                faults.append(f"{where}: took {time.monotonic() - began:.0f} s")
            for index, (request, answer) in enumerate(zip(requests, answers, strict=True)):
                fault = fault_of(request, answer)
                if attack.victim not in (None, index) and not isinstance(answer, Forecast):
                    fault = f"it spoils the others: {answer}"
                if fault:
                    faults.append(f"{where}: {fault}")
                outcomes[type(answer).__name__] += 1
                if isinstance(answer, Forecast):
                    stored.append(answer)
        client.close()
        with get_db_session(database) as session:
            store_forecasts(session, stored)
        faults += [f"stored: {row}" for row in impossible_rows(database)]
        if elsewhere.heads:
            faults.append(f"another host was asked: {elsewhere.heads[0]!r}")
    return outcomes, faults


def _ask_about(client: SpaceClient) -> None:
    """Call the other routes, which get the same answer."""
    for ask in (client.health, client.check_key, client.is_healthy):
        try:
            ask()
        except KronosError as error:
            if fault := _fault_of_text(error):
                raise AssertionError(fault) from error


def fault_of(request: SeriesRequest, answer: Forecast | KronosError) -> str | None:
    """Return what is wrong with an answer to `request`, or None."""
    if isinstance(answer, KronosError):
        return _fault_of_text(answer)
    sane = {
        "question": (answer.symbol, answer.as_of, answer.last_close, answer.samples, answer.seed)
        == (request.symbol, request.as_of, request.last_close, request.samples, request.seed),
        "model": answer.model_name.isprintable() and 0 < len(answer.model_name) <= 200,
        "dates": tuple(bar.target_date for bar in answer.bars) == request.targets,
        "warnings": all(line.isprintable() and len(line) <= 500 for line in answer.warnings),
    }
    for bar in answer.bars:
        quantiles = list(bar.close_quantiles.values())
        numbers = [bar.open, bar.high, bar.low, bar.close, bar.volume, bar.prob_up, *quantiles]
        prices = [bar.open, bar.high, bar.low, bar.close, *quantiles]
        sane |= {
            f"types of {bar.step}": all(type(number) in (int, float) for number in numbers),
            f"prices of {bar.step}": all(1e-7 < price < 1e6 for price in prices),
            f"candle of {bar.step}": bar.low <= min(bar.open, bar.close)
            and bar.high >= max(bar.open, bar.close),
            f"quantiles of {bar.step}": quantiles == sorted(quantiles)
            and tuple(bar.close_quantiles) == QUANTILE_LEVELS,
            f"rest of {bar.step}": 0 <= bar.volume < 1e25 and 0 <= bar.prob_up <= 1,
        }
    return next((f"{what}: {answer}" for what, holds in sane.items() if not holds), None)


def _fault_of_text(error: KronosError) -> str | None:
    message = str(error)
    return (
        None if message.isprintable() and len(message) <= 1200 else f"its text: {message[:2000]!r}"
    )


def impossible_rows(database: str) -> list[Any]:
    """Return the rows of kronos_predictions that no forecast can have."""
    with get_db_session(database) as session:
        rows = session.execute(
            text(
                "SELECT * FROM kronos_predictions WHERE NOT (predicted_low > 0 "
                "AND predicted_low <= predicted_open AND predicted_low <= predicted_close "
                "AND predicted_high >= predicted_open AND predicted_high >= predicted_close "
                "AND predicted_high < 1e6 AND predicted_volume BETWEEN 0 AND 1e25 "
                "AND close_p10 BETWEEN 1e-7 AND close_p50 AND close_p50 <= close_p90 "
                "AND close_p90 < 1e6 AND prob_up BETWEEN 0 AND 1 AND last_close = 100)"
            )
        )
        return list(rows)


def try_hub(number: int, seed: int, *, slow: bool = True) -> tuple[Counter[str], Tried]:
    """Run `number` attacks of a Hub; return their outcomes and all violations."""
    outcomes: Counter[str] = Counter()
    faults: Tried = []
    with HostileServer() as server, HostileServer() as elsewhere:
        hub = HubSpace(REPO, TOKEN, endpoint=server.url, timeouts=QUICK)
        calls: dict[str, Callable[[], object]] = {
            "stage": hub.stage,
            "restart": hub.restart,
            "pause": hub.pause,
            "info": hub.info,
            "log": lambda: hub.log_tail(build=False),
        }
        for turn in range(number):
            rng = random.Random(f"{seed} {turn}")
            attack = attack_of_a_hub(rng, elsewhere.url, slow=slow)
            server.answer = attack.answer
            call = rng.choice(list(calls))
            where = f"attack {turn} of seed {seed} ({call}, {attack.name})"
            began = time.monotonic()
            try:
                answer = calls[call]()
            except KronosError as error:
                if fault := _fault_of_text(error):
                    faults.append(f"{where}: {fault}")
                answer = error
            except Exception as error:
                faults.append(f"{where}: raised {type(error).__name__}: {error}")
                continue
            outcomes[f"{call}: {type(answer).__name__}"] += 1
            if call == "log" and not all(map(str.isprintable, str(answer).splitlines())):
                faults.append(f"{where}: {str(answer)[:500]!r}")
            if time.monotonic() - began > LATEST:
                faults.append(f"{where}: took {time.monotonic() - began:.0f} s")
        if elsewhere.heads:
            faults.append(f"another host was asked: {elsewhere.heads[0]!r}")
    return outcomes, faults


def main() -> int:
    """Run the attacks; return exit status 1 if one did harm."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", type=int, default=2000, help="answers of a Space (%(default)s)")
    parser.add_argument("--hub", type=int, default=500, help="answers of a Hub (%(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    # `make fuzz FUZZ="--attack …"` may also pass options of tests.support.fuzz
    options, _ = parser.parse_known_args()
    print(f"seed {options.seed}", flush=True)
    harm = []
    for name, number, attacks in (
        ("Space", options.space, try_space),
        ("Hub", options.hub, try_hub),
    ):
        began = time.monotonic()
        outcomes, faults = attacks(number, options.seed)
        harm += faults
        print(f"\n{number} hostile answers of a {name} in {time.monotonic() - began:.0f} s")
        for outcome, count in sorted(outcomes.items()):
            print(f"{count:6d} x {outcome}")
        for fault in faults[:50]:
            print(f"HARM  {fault[:1500]}", file=sys.stderr)
    print(f"\n{len(harm)} did harm" if harm else "\nnone did harm")
    return 1 if harm else 0


if __name__ == "__main__":
    sys.exit(main())
