"""Error messages of libraries are shortened to their cause."""

import pytest

from tradingbot.formatting import cause_text, innermost, quoted


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "(sqlite3.OperationalError) no such table: x (Background on this error at: "
            "https://sqlalche.me/e/20/e3q8)",
            "(sqlite3.OperationalError) no such table: x",
        ),
        (
            "Client error '404 Not Found' for url 'http://x/y'\nFor more information check: "
            "https://developer.mozilla.org/en-US/docs/Web/HTTP/Status/404",
            "Client error '404 Not Found' for url 'http://x/y'",
        ),
        (
            "1 validation error for A\na\n  Field required [type=missing]\n    For further "
            "information visit https://errors.pydantic.dev/2.12/v/missing",
            "1 validation error for A a Field required [type=missing]",
        ),
        ("http://127.0.0.1:9/health answered 503; see its log", None),
        ("See the log. Details: http://x/y", None),
    ],
)
def test_the_advice_of_a_library_to_read_its_manual_is_left_out(
    message: str, shown: str | None
) -> None:
    assert quoted(message) == (shown or message)


def test_the_cause_of_a_failed_call_is_its_innermost_reason() -> None:
    refused = ConnectionRefusedError(111, "Connection refused")
    outer = OSError("HTTPConnectionPool(host='x', port=9): Max retries exceeded with url: /")
    outer.__cause__ = refused
    assert cause_text(innermost(outer)) == "Connection refused"
    assert cause_text(KeyError("open")) == "KeyError: 'open'"
    curl = RuntimeError(
        "Failed to perform, curl: (28) Operation timed out after 10001 milliseconds. See "
        "https://curl.se/libcurl/c/libcurl-errors.html first for more details."
    )
    assert cause_text(curl) == "Operation timed out after 10001 milliseconds"
