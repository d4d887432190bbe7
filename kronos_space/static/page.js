// The page at `/`: candles in, POST predict, a fan and a table out. No framework, no build step.
//
//   readCandles (candles.js, with headings.js and cells.js) -> readForm -> send
//     -> showForecast (answer.js) -> draw (chart.js)
//
// Rows of the CSV count from 1, the service's bars from 0; `inTheirRows` translates.
"use strict";

const QUANTILES = [0.1, 0.25, 0.5, 0.75, 0.9];
const LARGEST_FILE = 5e6; // bytes

const byId = (id) => document.getElementById(id);
const config = JSON.parse(byId("config").textContent); // written by pages.py
const fields = ["csv", "symbol", "horizon", "paths", "seed", "key"];

let candles = null; // result of readCandles; null: the text is invalid
let outcome = []; // bars of a sample after the history
let answer = null; // the service's answer for these candles
let running = null; // the request in progress: { abort, first }; first: sent without pressing the button
let ticking; // timer that counts its seconds
let typing; // timer that ends after a pause in typing

/** Return a message of the service with rows of the CSV in place of bars. */
function inTheirRows(message) {
  const translated = message.replace(/\brow (\d+)\b/g, (whole, bar) => {
    const row = candles?.rows[bar];
    return row === undefined ? whole : `row ${row}`;
  });
  return sentence(translated);
}

// ---- The form ------------------------------------------------------------------------------

/** Read the text again, describe its candles, and draw them. */
function candlesChanged() {
  forget();
  setError("csv", "");
  byId("csv-about").textContent = "";
  candles = null;
  try {
    candles = chosenCandles();
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    if (byId("csv").value.trim() !== "") setError("csv", error.message);
  }
  if (candles !== null) {
    const { bars, notes } = candles;
    const times = labels(bars.map((bar) => bar.timestamp));
    const about = [`${count(bars.length, "bar")}, ${times[0]} to ${times.at(-1)}`, ...notes];
    byId("csv-about").textContent = about.join("; ") + ".";
    if (!byId("ticker-field").hidden) byId("symbol").value = byId("ticker").value.slice(0, 64);
  }
  draw();
}

/** Return the candles of the text; of several tickers, those of the chosen or first one. */
function chosenCandles() {
  const text = byId("csv").value;
  try {
    const found = readCandles(text, config.maxHistory);
    offerTickers([]);
    return found;
  } catch (error) {
    offerTickers(error.tickers ?? []);
    if (!(error.tickers?.length > 0)) throw error;
    return readCandles(text, config.maxHistory, byId("ticker").value);
  }
}

/** List the text's tickers; the chosen one stays selected if it is among them. */
function offerTickers(tickers) {
  const select = byId("ticker");
  const chosen = select.value;
  select.replaceChildren(...tickers.map((ticker) => new Option(ticker)));
  if (tickers.includes(chosen)) select.value = chosen;
  byId("ticker-field").hidden = tickers.length === 0;
  byId("ticker-help").textContent = `The candles are of ${count(tickers.length, "ticker")}.`;
}

async function sampleChosen() {
  const name = byId("sample").value;
  byId("form-error").textContent = "";
  if (name === "") {
    outcome = [];
    byId("own").open = true;
    byId("csv").value = "";
    byId("symbol").value = "My series";
    candlesChanged();
    return;
  }
  const text = await fetch(`static/samples/${name}.csv`)
    .then((response) => (response.ok ? response.text() : null))
    .catch(() => null);
  if (byId("sample").value !== name) return; // the user has chosen or typed something else
  if (text === null) {
    byId("form-error").textContent = "The sample did not arrive. Is the Space awake? Try again.";
    return;
  }
  const lines = text.trimEnd().split("\n");
  outcome = readCandles(text).bars.slice(-config.outcomeBars);
  byId("csv").value = lines.slice(0, -config.outcomeBars).join("\n");
  byId("csv").scrollTop = 0;
  byId("symbol").value = name;
  candlesChanged();
}

/** Forget the sample, because the text has changed. */
function ownCandles() {
  outcome = [];
  if (byId("sample").value !== "") {
    byId("sample").value = "";
    byId("symbol").value = "My series";
  }
}

async function fileGiven(file) {
  byId("own").open = true;
  let text;
  try {
    text = await textOf(file, LARGEST_FILE);
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    setError("csv", error.message);
    return;
  }
  ownCandles();
  byId("csv").value = text;
  byId("symbol").value = file.name.replace(/\.[^.]*$/, "").slice(0, 64) || "My series";
  candlesChanged();
}

/** Return the form's request; or null, and show an error at each wrong field. */
function readForm() {
  for (const name of fields) setError(name, "");
  byId("form-error").textContent = "";
  try {
    candles = chosenCandles();
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    setError("csv", error.message, error.row);
  }
  const symbol = byId("symbol").value.trim();
  if (symbol === "") setError("symbol", "A name, such as AAPL.");
  for (const name of ["horizon", "paths", "seed"]) {
    const { min, max, validity } = byId(name);
    if (validity.valid) continue;
    const label = byId(name).labels[0].textContent;
    setError(name, `${label}: a whole number from ${thousands(min)} to ${thousands(max)}.`);
  }
  if (config.needsKey && byId("key").value === "") setError("key", "This Space needs its key.");
  const wrong = fields.find((name) => byId(name).getAttribute("aria-invalid") === "true");
  if (wrong !== undefined) {
    focusOn(wrong);
    return null;
  }
  const request = {
    symbol,
    horizon: byId("horizon").valueAsNumber,
    samples: byId("paths").valueAsNumber,
    temperature: config.temperature,
    top_p: config.topP,
    quantiles: QUANTILES,
    ohlcv: candles.bars,
  };
  if (byId("seed").value !== "") request.seed = byId("seed").valueAsNumber;
  return request;
}

let wrongRow = null; // of the CSV

function setError(name, message, row = null) {
  const error = byId(`${name}-error`);
  if (error.textContent !== message) error.textContent = message;
  if (message === "") byId(name).removeAttribute("aria-invalid");
  else byId(name).setAttribute("aria-invalid", "true");
  if (name === "csv") wrongRow = row;
}

/** Move the cursor to a wrong field, in the CSV to the wrong row. */
function focusOn(name) {
  const field = byId(name);
  if (byId("own").contains(field)) byId("own").open = true;
  field.focus();
  if (name !== "csv" || wrongRow === null) return;
  const lines = field.value.split("\n");
  const start = lines.slice(0, wrongRow - 1).join("\n").length + (wrongRow > 1 ? 1 : 0);
  field.setSelectionRange(start, start + lines[wrongRow - 1].length);
  const height = field.scrollHeight / lines.length;
  field.scrollTop = Math.max(0, (wrongRow - 3) * height);
  field.scrollLeft = 0;
}

// ---- Requests ------------------------------------------------------------------------------

async function ask(event) {
  event.preventDefault();
  if (running !== null && !running.first) return;
  clearTimeout(typing);
  const request = readForm();
  if (request !== null) await send(request);
}

/** Request the forecast shown when the page opens: that of the sample, always the same. */
async function askFirst() {
  await sampleChosen();
  if (candles !== null && !config.needsKey) await send({ ...readForm(), seed: 1 }, true);
}

/** Show the forecast, or why there is none. Errors of the first request are not shown. */
async function send(request, first = false) {
  running?.abort();
  const controller = new AbortController();
  const { signal } = controller;
  const mine = (running = { abort: () => controller.abort(), first });
  const headers = { "Content-Type": "application/json" };
  if (config.needsKey) headers["X-API-Key"] = byId("key").value;
  answer = null;
  wait(request);
  try {
    const body = JSON.stringify(request);
    const response = await fetch("predict", { method: "POST", headers, body, signal });
    const content = await response.json().catch(() => null);
    if (signal.aborted) return;
    if (response.ok && content !== null) showForecast(request, content);
    else if (!first) showRefusal(response, content?.error);
  } catch (error) {
    if (signal.aborted) return;
    console.error(error);
    if (first) return;
    byId("form-error").textContent = navigator.onLine
      ? "The Space did not answer. It may be asleep or restarting: try again in a minute."
      : "This device is offline: connect it, then press Forecast again.";
  } finally {
    if (running === mine) {
      stopWaiting();
      if (answer !== null && !first) bringIntoSight();
    }
  }
}

/** Show that a request is running. Earlier results stay, in pale colours. */
function wait({ symbol, samples, horizon }) {
  const started = performance.now();
  const tick = () => {
    byId("seconds").textContent = `${Math.round((performance.now() - started) / 1000)} s`;
  };
  clearInterval(ticking);
  ticking = setInterval(tick, 1000);
  tick();
  byId("waiting").hidden = byId("cancel").hidden = false;
  byId("summary").textContent = "";
  byId("go").setAttribute("aria-disabled", "true");
  byId("results").setAttribute("aria-busy", "true");
  byId("waiting-for").textContent =
    `Simulating ${symbol}: ${count(samples, "path")}, ${count(horizon, "bar")} each.`;
}

function stopWaiting() {
  clearInterval(ticking);
  running = null;
  if (document.activeElement === byId("cancel")) byId("go").focus();
  byId("waiting").hidden = byId("cancel").hidden = true;
  byId("waiting-for").textContent = byId("seconds").textContent = "";
  byId("go").removeAttribute("aria-disabled");
  byId("results").removeAttribute("aria-busy");
  if (answer !== null) return;
  forget();
  draw();
}

/** Show the service's message next to the field that it is about. */
function showRefusal(response, error) {
  const message = error?.message ?? `the Space answered ${response.status}`;
  if (response.status === 401) {
    setError("key", "The Space refused this key.");
    focusOn("key");
  } else if (response.status === 422 || response.status === 413) {
    const name = fieldOf(error);
    const bar = /\brow (\d+)\b/.exec(message)?.[1];
    setError(name, inTheirRows(message), candles.rows[bar] ?? null);
    focusOn(name);
  } else {
    const seconds = response.headers.get("Retry-After");
    const when = seconds === null ? "" : ` Try again in ${count(Number(seconds), "second")}.`;
    byId("form-error").textContent = inTheirRows(message) + when;
  }
}

function fieldOf(error) {
  const theirs = { symbol: "symbol", horizon: "horizon", samples: "paths", seed: "seed" };
  const name = error?.fields?.[0]?.field ?? /^\w*/.exec(error?.message ?? "")[0];
  return theirs[name] ?? "csv";
}

// ---- Formats -------------------------------------------------------------------------------

/** Format times: only dates if all are at midnight, and seconds only if there are any. */
function labels(times) {
  const spaced = times.map((time) => time.replace("T", " "));
  if (spaced.every((time) => /^.{10}( 00:00(:00(\.0+)?)?)?$/.test(time))) {
    return spaced.map((time) => time.slice(0, 10));
  }
  if (spaced.some((time) => /^.{16}:(?!00(\.0+)?(Z|[+-]|$))/.test(time))) return spaced;
  return spaced.map((time) => time.replace(/^(.{16}):00(\.0+)?/, "$1"));
}

/** Return the decimals for the size of the prices: 455.49, 27.95, 1.0912, 0.000123. */
function digits() {
  const size = candles?.bars.at(-1).close ?? 100;
  return size >= 10 ? 2 : Math.min(12, 4 - Math.floor(Math.log10(size)));
}

/** Format a price: 1,234.50, with the decimals of these prices. */
function price(value) {
  return value.toLocaleString("en", {
    minimumFractionDigits: digits(),
    maximumFractionDigits: digits(),
  });
}

/** Format a whole number: 1,234. */
function thousands(number) {
  return Number(number).toLocaleString("en", { maximumFractionDigits: 0 });
}

function percent(share) {
  return `${Math.round(share * 100)}\u00a0%`;
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + ".";
}

function count(number, what) {
  return `${thousands(number)} ${what}${number === 1 ? "" : "s"}`;
}

function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function element(tag, text = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

// ---- Begin ---------------------------------------------------------------------------------

function dropping(event) {
  if (!event.dataTransfer?.types.includes("Files")) return; // the browser handles dragged text
  event.preventDefault(); // otherwise a file dropped outside of the box replaces the page
  byId("drop").classList.toggle("over", event.type === "dragover");
  const [file] = event.type === "drop" ? event.dataTransfer.files : [];
  if (file !== undefined) fileGiven(file);
}

byId("model").textContent = config.model;
byId("demo").hidden = !config.forTrying;
byId("docs").hidden = config.needsKey; // a link cannot send the key
byId("key-field").hidden = !config.needsKey;
byId("horizon").max = config.maxHorizon;
byId("paths").max = config.maxSamples;
byId("paths").value = config.samples;
for (const name of ["horizon", "paths"]) {
  byId(name).value = Math.min(byId(name).value, byId(name).max);
}
if (matchMedia("(max-width: 40rem)").matches) byId("shown").value = "30";

byId("csv").addEventListener("input", () => {
  ownCandles();
  clearTimeout(typing);
  typing = setTimeout(candlesChanged, 200);
});
byId("sample").addEventListener("change", sampleChosen);
byId("ticker").addEventListener("change", candlesChanged);
byId("file").addEventListener("change", () => {
  const [file] = byId("file").files;
  byId("file").value = ""; // so that the same file can be chosen again
  if (file !== undefined) fileGiven(file);
});
for (const kind of ["dragover", "dragleave", "drop"]) addEventListener(kind, dropping);
byId("form").addEventListener("submit", ask);
byId("cancel").addEventListener("click", () => running?.abort());
byId("shown").addEventListener("change", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
byId("plotly").addEventListener("load", () => {
  byId("save-png").disabled = false;
  draw();
});
byId("plotly").addEventListener("error", () => {
  byId("chart").textContent = "The chart's script did not arrive. All else works without it.";
});
copyButton("copy-table", tableText, "table");
copyButton("copy-curl", () => byId("curl").textContent, "command");
byId("save-csv").addEventListener("click", saveCsv);
byId("save-png").addEventListener("click", savePng);
askFirst();
