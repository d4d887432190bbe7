"""The chart of `kronosbot mcp` and `/mcp` in a real Chromium, embedded as by an MCP Apps host."""

import html
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Frame, Page, expect

from tests.support import ROOT

FAN = ROOT / "tradingbot/ai/mcp/fan.html"
# the policy of a host for a page that declares none
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; media-src 'self' data:; connect-src 'none'"
)
LEVELS = {"0.1": -4.0, "0.25": -2.0, "0.5": 1.0, "0.75": 3.0, "0.9": 5.0}
HOST = """
<iframe sandbox="allow-scripts" style="width: 100%; height: 600px" srcdoc="FAN"></iframe>
<script>
const heard = [], frame = document.querySelector("iframe").contentWindow;
const tell = (message) => frame.postMessage({ jsonrpc: "2.0", ...message }, "*");
addEventListener("message", ({ data }) => {
  heard.push(data);
  if (data.method === "ui/initialize") tell({ id: data.id, result: CONTEXT });
  if (data.method === "tools/call") tell({ id: data.id, result: answers(data.params) });
});
let answers = () => ({ isError: true, content: [{ type: "text", text: "not now" }] });
</script>
"""


def forecast(days: int = 5, **changes: Any) -> dict[str, Any]:
    return {
        "symbol": "AAPL",
        "model": "NeoQuasar/Kronos-mini",
        "as_of": "2026-11-20T00:00:00",
        "last_close": 100.0,
        "sessions_missed": 0,
        "track_record": "AAPL, last 60 sessions: 80 % band held 81 %",
        "predictions": [
            {
                "step": step,
                "target_date": f"2026-12-{step:02}T00:00:00",
                "close": 100.5,
                "close_quantiles": {level: 100 + move * step for level, move in LEVELS.items()},
                "prob_up": 0.6,
            }
            for step in range(1, days + 1)
        ],
        **changes,
    }


def result(document: dict[str, Any]) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": "in words"}], "structuredContent": document}


@pytest.fixture
def host(browser: Browser) -> Iterator[Callable[..., tuple[Page, Frame]]]:
    """Open the chart in a host with these capabilities. Requests and errors fail the test."""
    wrong: list[str] = []
    context = browser.new_context(viewport={"width": 700, "height": 700})
    context.set_default_timeout(60_000)
    context.on("request", lambda asked: wrong.append(asked.url))
    context.on("weberror", lambda failed: wrong.append(str(failed.error)))
    context.on("console", lambda message: wrong.append(message.text))

    def opened(**capabilities: Any) -> tuple[Page, Frame]:
        schema = {"properties": {"symbol": {}, "horizon": {}}}
        answer = {
            "protocolVersion": "2026-01-26",
            "hostInfo": {"name": "test", "version": "1"},
            "hostCapabilities": capabilities,
            "hostContext": {
                "theme": "dark",
                "locale": "en-GB",
                "toolInfo": {"tool": {"name": "forecast", "inputSchema": schema}},
            },
        }
        policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        fan = FAN.read_text(encoding="utf-8").replace("<head>", f"<head>{policy}")
        page = context.new_page()
        content = HOST.replace("CONTEXT", json.dumps(answer)).replace("FAN", html.escape(fan))
        page.set_content(content)
        page.wait_for_function(
            "heard.some(({ method }) => method === 'ui/notifications/initialized')"
        )
        return page, page.frames[1]

    yield opened
    context.close()
    assert wrong == []


def give(page: Page, answer: dict[str, Any], **arguments: Any) -> None:
    """Send what a host sends: the arguments of the call, then its result."""
    for name, params in (("tool-input", {"arguments": arguments}), ("tool-result", answer)):
        message = {"method": f"ui/notifications/{name}", "params": params}
        page.evaluate("message => tell(message)", message)


def test_a_forecast_is_drawn_and_each_day_can_be_looked_at(host: Any) -> None:
    page, fan = host()
    give(page, result(forecast()), symbol="AAPL")
    expect(fan.locator("#title")).to_have_text("AAPL, 5 bars ahead")
    assert fan.locator("#chart .band").count() == 2
    assert fan.locator("#chart .median").count() == 1
    day = fan.locator("#day")
    expect(day).to_have_text(
        "Sat, 5 Dec 2026: median 105 (+5.0 %), 80% of outcomes from 80 to 125, P(up) 60%"
    )
    fan.locator("#chart").press("ArrowLeft")
    expect(day).to_contain_text("Fri, 4 Dec 2026: median 104")
    box = fan.locator("#chart").bounding_box()
    assert box
    page.mouse.move(box["x"] + 75, box["y"] + 50)
    expect(day).to_contain_text("Tue, 1 Dec 2026: median 101")
    assert fan.locator("#days").is_hidden()  # this host does not offer tool calls
    fan.locator("summary").click()
    assert fan.locator("#numbers tr").count() == 6
    assert fan.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    page.wait_for_function("heard.some(({ method }) => method?.endsWith('size-changed'))")


def test_another_horizon_is_requested_through_the_host(host: Any) -> None:
    page, fan = host(serverTools={})
    give(page, result(forecast()), symbol="AAPL")
    page.evaluate("answer => { answers = () => answer }", result(forecast(10)))
    fan.locator("#horizon").select_option("10")
    expect(fan.locator("#title")).to_have_text("AAPL, 10 bars ahead")
    [called] = page.evaluate("heard.filter(({ method }) => method === 'tools/call')")
    assert called["params"] == {
        "name": "forecast",
        "arguments": {"symbol": "AAPL", "horizon": 10},
    }


def test_the_candles_that_a_space_was_given_are_drawn_too(host: Any) -> None:
    page, fan = host()
    give(page, result(forecast()), ohlcv=[{"close": 90.0 + n} for n in range(11)])
    expect(fan.locator("#fan")).to_be_visible()
    line = fan.locator("#chart .past").get_attribute("d")
    assert line
    assert line.count("L") == 10


def test_known_closes_before_and_after_a_forecast_are_drawn(host: Any) -> None:
    page, fan = host()
    closes = [[f"2026-11-{day}", 90.0 + day] for day in range(10, 21)]
    came = [["2026-12-01", 101.5], ["2026-12-02", 95.0]]
    answer = {**result(forecast()), "_meta": {"kronos/closes": [*closes, *came]}}
    give(page, answer, symbol="AAPL")
    line = fan.locator("#chart .past").get_attribute("d")
    assert line
    assert line.count("L") == 10
    assert fan.locator("#chart .came").count() == 2
    fan.locator("#chart").press("Home")
    expect(fan.locator("#day")).to_contain_text("P(up) 60%; it closed at 101.5")


def test_without_a_forecast_the_text_is_shown(host: Any) -> None:
    page, fan = host()
    answer = {"isError": True, "content": [{"type": "text", "text": "No forecast: <b>asleep</b>"}]}
    give(page, answer, symbol="AAPL")
    expect(fan.locator("#message")).to_have_text("No forecast: <b>asleep</b>")
    assert fan.locator("#fan").is_hidden()


def test_names_are_shown_as_text_and_never_executed(host: Any) -> None:
    page, fan = host()
    name = "<img src=x onerror=alert(1)>"
    give(page, result(forecast(symbol=name, model=name, track_record=name)), symbol=name)
    expect(fan.locator("#title")).to_contain_text(name)
    assert fan.locator("img").count() == 0
