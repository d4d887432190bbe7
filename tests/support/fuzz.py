"""Send thousands of generated requests to a real service and compare it with its OpenAPI document.

    make fuzz        or: python -m tests.support.fuzz --requests 5000 --seed 7

Three kinds: requests that the OpenAPI document allows, requests that it forbids, and plausible
candles. A server error, an undocumented status or body, accepted wrong input and refused plausible
candles are failures. The test suite runs a few of these requests. With `--attack`,
tests.support.attack runs instead.
"""

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.support import attack
from tests.support.space_server import serving

KEPT = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# short histories: a long random one is rarely valid
BOUNDS = {
    "KRONOS_MIN_HISTORY": "2",
    "KRONOS_MAX_HISTORY": "8",
    "KRONOS_MAX_HORIZON": "4",
    "KRONOS_MAX_SAMPLES": "4",
    "KRONOS_MAX_BATCH": "3",
}
ALLOWED, FORBIDDEN, MARKET = "allowed", "forbidden", "market"
# GET requests have no input to generate
KINDS = [
    ("GET", "/health", ALLOWED),
    ("GET", "/metrics", ALLOWED),
    *(("POST", "/predict", kind) for kind in (ALLOWED, FORBIDDEN, MARKET)),
    *(("POST", "/predict/batch", kind) for kind in (ALLOWED, FORBIDDEN, MARKET)),
]

Seen = Callable[[str, str, int], object]  # called with method, path and status of every answer


def main() -> int:
    """Run all kinds; return exit status 1 if an answer was wrong."""
    options = parser().parse_args()
    if options.attack:
        return attack.main()
    many = -(-options.requests // sum(method == "POST" for method, *_ in KINDS))
    counts: Counter[tuple[str, str, int]] = Counter()
    failures = []
    print(f"seed {options.seed}", flush=True)
    with TemporaryDirectory() as folder, serving(Path(folder) / "log", **BOUNDS) as server:
        document = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        for method, path, kind in KINDS:
            print(f"{method} {path}, {kind}", flush=True)
            try:
                fuzz(
                    *(document, method, path, kind),
                    many=many,
                    seed=options.seed,
                    seen=lambda *what: counts.update([what]),
                )
            except (
                Exception
            ) as failure:  # of hypothesis or schemathesis, with the request to repeat
                failures.append(failure)
                print(failure, *getattr(failure, "exceptions", ()), sep="\n", file=sys.stderr)
    print(f"\n{sum(counts.values())} requests")
    for (method, path, status), count in sorted(counts.items()):
        print(f"{count:6d} x {status}  {method} {path}")
    print("failed" if failures else "all as documented")
    return 1 if failures else 0


def fuzz(
    document: schemathesis.BaseSchema,
    method: str,
    path: str,
    kind: str,
    *,
    many: int,
    seed: int,
    seen: Seen = lambda *what: None,
) -> None:
    """Send `many` requests of a kind. Raises schemathesis's error for a wrong answer."""
    # a batch succeeds even if each of its requests is refused
    strict = kind == FORBIDDEN and path == "/predict"
    checks = [*KEPT, negative_data_rejection] if strict else KEPT

    @hypothesis.seed(seed)
    @given(_cases(document[path][method], path, kind))
    @settings(
        max_examples=many, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    def keeps_to_the_document(case: schemathesis.Case) -> None:
        response = case.call()
        seen(method, path, response.status_code)
        case.validate_response(response, checks=checks)
        if kind == MARKET:
            _check_forecasts(response.status_code, response.json())

    keeps_to_the_document()


def _cases(operation: Any, path: str, kind: str) -> st.SearchStrategy[schemathesis.Case]:
    if kind == MARKET:
        body = market() if path == "/predict" else st.lists(market(), min_size=1, max_size=3)
        envelope = (
            (lambda single: single) if path == "/predict" else (lambda all_: {"requests": all_})
        )
        return body.map(
            lambda made: operation.Case(body=envelope(made), media_type="application/json")
        )
    mode = GenerationMode.POSITIVE if kind == ALLOWED else GenerationMode.NEGATIVE
    cases: st.SearchStrategy[schemathesis.Case] = operation.as_strategy(generation_mode=mode)
    return cases


@st.composite
def market(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a request that must succeed: plausible candles of any size, spacing and zone."""
    prices = st.floats(1e-2, 1e2)
    size = draw(st.sampled_from([1e-9, 1e-4, 1.0, 1e3, 1e9]))
    start = draw(st.datetimes(datetime(1980, 1, 1), datetime(2100, 1, 1)))
    every = draw(
        st.sampled_from([timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)])
        | st.timedeltas(timedelta(seconds=1), timedelta(days=400))
    )
    zone = draw(st.sampled_from(["", "Z", "+05:30", "-0500"]))
    volumes = draw(st.none() | st.floats(0, 1e15))
    rows = []
    for bar in range(draw(st.integers(2, 8))):
        low, one, other, high = sorted(size * draw(prices) for _ in range(4))
        open_, close = draw(st.permutations([one, other]))
        moment = (start + bar * every).isoformat(timespec="microseconds") + zone
        row = {"timestamp": moment, "open": open_, "high": high, "low": low, "close": close}
        rows.append(row if volumes is None else {**row, "volume": volumes * bar})
    options = {
        "horizon": st.integers(1, 4),
        "samples": st.integers(1, 4),
        "temperature": st.floats(0.001, 100),
        "top_k": st.integers(0, 1_000_000),
        "top_p": st.floats(1e-6, 1),
        "seed": st.none() | st.integers(0, 2**53 - 1),
        "quantiles": st.lists(st.floats(0.001, 0.999), min_size=1, max_size=5),
        "return_paths": st.booleans(),
    }
    chosen = draw(st.fixed_dictionaries({}, optional=options))
    return {"symbol": draw(st.sampled_from(["SPY", "日経", "x" * 64])), "ohlcv": rows, **chosen}


def _check_forecasts(status: int, body: dict[str, Any]) -> None:
    assert status == 200, body
    for forecast in _forecasts(body):
        for bar in forecast["predictions"]:
            assert 0 < bar["low"] <= min(bar["open"], bar["close"]) * (1 + 1e-9), bar
            assert bar["high"] * (1 + 1e-9) >= max(bar["open"], bar["close"]), bar
            assert bar["volume"] >= 0, bar


def _forecasts(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for result in body.get("results", [body]):
        assert result.get("ok", True), result
        yield result


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--requests", type=int, default=2400, help="at least (%(default)s)")
    made.add_argument(
        "--seed",
        type=int,
        default=random.randrange(2**32),
        help="default: a random one, which is printed",
    )
    made.add_argument("--attack", action="store_true", help="attack Spaces instead, for minutes")
    return made


if __name__ == "__main__":
    sys.exit(main())
