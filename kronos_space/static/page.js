// The page at `/`: candles in, POST predict, a fan and a table out. No framework, no build step.
//
//   readCandles (candles.js, with headings.js and cells.js) -> readForm -> ask -> showForecast -> draw (chart.js)
//
// Rows of the CSV count from 1, the service's bars from 0; `inTheirRows` translates.
"use strict";

const config = JSON.parse(document.getElementById("config").textContent);
const QUANTILES = [0.1, 0.25, 0.5, 0.75, 0.9];
const LARGEST_FILE = 5e6; // bytes

const byId = (id) => document.getElementById(id);
const fields = ["csv", "symbol", "horizon", "paths", "seed", "key"];

let candles = null; // what readCandles made of the text; null: it cannot be used
let outcome = []; // bars of a sample that came after the history
let answer = null; // of the service, for these candles
let running = null; // AbortController of the request under way
let typing; // timer that ends when nothing was typed for a moment

/** A message of the service, with its bars named by the rows that they stand in. */
function inTheirRows(message) {
  const translated = message.replace(/\brow (\d+)\b/g, (whole, bar) => {
    const row = candles?.rows[bar];
    return row === undefined ? whole : `row ${row}`;
  });
  return sentence(translated);
}

// ---- The form ------------------------------------------------------------------------------

/** Read the text anew, say what is in it, and draw it. */
function candlesChanged() {
  forget();
  setError("csv", "");
  byId("csv-about").textContent = "";
  candles = null;
  try {
    candles = readCandles(byId("csv").value, config.maxHistory);
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    if (byId("csv").value.trim() !== "") setError("csv", error.message);
  }
  if (candles !== null) {
    const { bars, notes } = candles;
    const times = labels(bars.map((bar) => bar.timestamp));
    const about = [`${bars.length} bars, ${times[0]} to ${times.at(-1)}`, ...notes];
    byId("csv-about").textContent = about.join("; ") + ".";
  }
  draw();
}

async function sampleChosen() {
  const name = byId("sample").value;
  if (name === "") {
    outcome = [];
    byId("csv").value = "";
    byId("symbol").value = "My series";
    candlesChanged();
    return;
  }
  const text = await fetch(`static/samples/${name}.csv`)
    .then((response) => (response.ok ? response.text() : null))
    .catch(() => null);
  if (byId("sample").value !== name) return; // something else was chosen or typed meanwhile
  if (text === null) {
    setError("csv", "The sample did not arrive. Is the Space awake? Try again.");
    return;
  }
  const lines = text.trimEnd().split("\n");
  outcome = readCandles(text).bars.slice(-config.outcomeBars);
  byId("csv").value = lines.slice(0, -config.outcomeBars).join("\n");
  byId("csv").scrollTop = 0;
  byId("symbol").value = name;
  candlesChanged();
}

/** The text is no longer the sample's. */
function ownCandles() {
  outcome = [];
  if (byId("sample").value !== "") {
    byId("sample").value = "";
    byId("symbol").value = "My series";
  }
}

async function fileGiven(file) {
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

/** The request that the form describes, or null: then each wrong field says why. */
function readForm() {
  for (const name of fields) setError(name, "");
  byId("form-error").textContent = "";
  try {
    candles = readCandles(byId("csv").value, config.maxHistory);
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    setError("csv", error.message, error.row);
  }
  const symbol = byId("symbol").value.trim();
  if (symbol === "") setError("symbol", "A name, such as AAPL.");
  for (const name of ["horizon", "paths", "seed"]) {
    const { min, max, validity } = byId(name);
    if (!validity.valid) setError(name, `A whole number from ${min} to ${max}.`);
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

/** Put the cursor into a wrong field, in the CSV onto the wrong row. */
function focusOn(name) {
  const field = byId(name);
  field.focus();
  if (name !== "csv" || wrongRow === null) return;
  const lines = field.value.split("\n");
  const start = lines.slice(0, wrongRow - 1).join("\n").length + (wrongRow > 1 ? 1 : 0);
  field.setSelectionRange(start, start + lines[wrongRow - 1].length);
  const height = field.scrollHeight / lines.length;
  field.scrollTop = Math.max(0, (wrongRow - 3) * height);
  field.scrollLeft = 0;
}

// ---- Asking --------------------------------------------------------------------------------

async function ask(event) {
  event.preventDefault();
  if (running !== null) return;
  clearTimeout(typing);
  const request = readForm();
  if (request === null) return;
  forget();
  const headers = { "Content-Type": "application/json" };
  if (config.needsKey) headers["X-API-Key"] = byId("key").value;
  running = new AbortController();
  const { signal } = running;
  byId("summary").textContent = "";
  const stopWaiting = wait(request);
  try {
    const body = JSON.stringify(request);
    const response = await fetch("predict", { method: "POST", headers, body, signal });
    const content = await response.json().catch(() => null);
    if (signal.aborted) return;
    if (response.ok && content !== null) showForecast(request, content);
    else showRefusal(response, content?.error);
  } catch (error) {
    if (!signal.aborted) {
      console.error(error);
      byId("form-error").textContent =
        "The Space did not answer. It may be asleep or restarting: try again in a minute.";
    }
  } finally {
    stopWaiting();
    running = null;
    if (answer === null) forget();
  }
}

/** Show that something happens; returns what ends it. */
function wait({ symbol, samples, horizon }) {
  const started = performance.now();
  const tick = () => {
    byId("seconds").textContent = `${Math.round((performance.now() - started) / 1000)} s`;
  };
  const timer = setInterval(tick, 1000);
  tick();
  byId("waiting").hidden = byId("cancel").hidden = false;
  byId("go").setAttribute("aria-disabled", "true");
  byId("results").setAttribute("aria-busy", "true");
  byId("waiting-for").textContent =
    `Simulating ${symbol}: ${count(samples, "path")}, ${count(horizon, "bar")} each.`;
  return () => {
    clearInterval(timer);
    if (document.activeElement === byId("cancel")) byId("go").focus();
    byId("waiting").hidden = byId("cancel").hidden = true;
    byId("waiting-for").textContent = byId("seconds").textContent = "";
    byId("go").removeAttribute("aria-disabled");
    byId("results").removeAttribute("aria-busy");
  };
}

/** Say what the service said, beside the field that it is about. */
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

// ---- The answer ----------------------------------------------------------------------------

/** What is shown no longer belongs to what the form says. */
function forget() {
  running?.abort();
  answer = null;
  byId("answer").hidden = byId("warnings").hidden = true;
  byId("summary").textContent = "Press Forecast to see how these candles might go on.";
  byId("results-title").textContent = "Chart";
}

function showForecast(request, content) {
  answer = content;
  const bars = answer.predictions;
  const times = labels(bars.map((bar) => bar.target_date));
  byId("results-title").textContent = `${answer.symbol}: the next ${count(bars.length, "bar")}`;
  byId("summary").textContent = inWords(bars.at(-1), times.at(-1));
  byId("warnings").replaceChildren(...answer.warnings.map((text) => element("li", sentence(text))));
  byId("warnings").hidden = answer.warnings.length === 0;
  fillTable(bars, times);
  const start = answer.reconstruction;
  const made = {
    Model: answer.model,
    Revision: answer.model_revision ?? "none",
    "History to": labels([answer.as_of])[0],
    "Last close": price(answer.last_close),
    "Read by the tokenizer as": `${price(start.close)} (prices × ${start.factor.toFixed(4)})`,
    Paths: answer.samples,
    Seed: answer.seed,
  };
  byId("made").replaceChildren(
    ...Object.entries(made).map(([name, value]) => {
      const pair = element("div");
      pair.append(element("dt", name), element("dd", value));
      return pair;
    }),
  );
  byId("curl").textContent = curl({ ...request, seed: answer.seed });
  byId("answer").hidden = false;
  draw();
  if (matchMedia("(max-width: 60rem)").matches) {
    byId("results").scrollIntoView({ block: "start" }); // it lies below the form
  }
}

function inWords(bar, time) {
  const [low, , middle, , high] = QUANTILES.map((level) => bar.close_quantiles[level]);
  const change = (middle / answer.last_close - 1) * 100;
  const sign = change < 0 ? "−" : "+";
  return (
    `By ${time} the median path closes at ${price(middle)} ` +
    `(${sign}${Math.abs(change).toFixed(1)}\u00a0% from ${price(answer.last_close)}); ` +
    `80\u00a0% of the paths close between ${price(low)} and ${price(high)}, ` +
    `${percent(bar.prob_up)} above the last close.`
  );
}

function fillTable(bars, times) {
  const hasVolume = candles.bars[0].volume !== undefined;
  const head = ["Date", "Open", "High", "Low", "Close", ...QUANTILES.map(percent), "Up"];
  if (hasVolume) head.push("Volume");
  const rows = bars.map((bar, index) => [
    times[index],
    ...PRICES.map((name) => price(bar[name])),
    ...QUANTILES.map((level) => price(bar.close_quantiles[level])),
    percent(bar.prob_up),
    ...(hasVolume ? [Math.round(bar.volume)] : []),
  ]);
  byId("answer").querySelector("thead").replaceChildren(tableRow(head, "col"));
  byId("answer").querySelector("tbody").replaceChildren(...rows.map((row) => tableRow(row, "row")));
}

/** One row; its first cell, or all of a header's, are headings. */
function tableRow(cells, scope) {
  const row = element("tr");
  cells.forEach((text, index) => {
    const heads = scope === "col" || index === 0;
    const cell = element(heads ? "th" : "td", text);
    if (heads) cell.scope = scope;
    row.append(cell);
  });
  return row;
}

/** The table as a spreadsheet takes it. */
function tableText() {
  const rows = [...byId("answer").querySelectorAll("tr")];
  const text = rows.map((row) => [...row.cells].map((cell) => cell.textContent).join("\t"));
  return text.join("\n").replaceAll("\u00a0", " ");
}

/** The request as a command; the key is left to the environment. */
function curl({ ohlcv, ...rest }) {
  const bars = ohlcv.map((bar) => JSON.stringify(bar)).join(",\n");
  const body = `${JSON.stringify(rest).slice(0, -1)},"ohlcv":[\n${bars}\n]}`;
  const key = config.needsKey ? ' -H "X-API-Key: $KRONOS_API_KEY"' : "";
  const url = new URL("predict", document.baseURI);
  return (
    `curl -sS '${url}' -H 'Content-Type: application/json'${key} --data-binary @- <<'JSON'\n` +
    `${body}\nJSON\n`
  );
}

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyBySelecting(text); // no clipboard in a frame, or without https
  }
  byId("copied").textContent = "";
  byId("copied").textContent = `Copied the ${what}.`;
}

function copyBySelecting(text) {
  const focused = document.activeElement;
  const area = element("textarea");
  area.className = "unseen";
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  focused?.focus();
}

function copyButton(id, text, what) {
  const button = byId(id);
  const label = button.textContent;
  let timer;
  button.addEventListener("click", async () => {
    await copy(text(), what);
    button.textContent = "Copied";
    clearTimeout(timer);
    timer = setTimeout(() => (button.textContent = label), 2000);
  });
}

// ---- Small things --------------------------------------------------------------------------

/** Times as people write them: dates alone if all are at midnight, seconds only if there are any. */
function labels(times) {
  const spaced = times.map((time) => time.replace("T", " "));
  if (spaced.every((time) => /^.{10}( 00:00(:00(\.0+)?)?)?$/.test(time))) {
    return spaced.map((time) => time.slice(0, 10));
  }
  if (spaced.some((time) => /^.{16}:(?!00(\.0+)?(Z|[+-]|$))/.test(time))) return spaced;
  return spaced.map((time) => time.replace(/^(.{16}):00(\.0+)?/, "$1"));
}

/** Decimals that suit the size of the prices: 455.49, 27.95, 1.0912, 0.000123. */
function digits() {
  const size = candles?.bars.at(-1).close ?? 100;
  return size >= 10 ? 2 : Math.min(12, 4 - Math.floor(Math.log10(size)));
}

function price(value) {
  return value.toFixed(digits());
}

function percent(share) {
  return `${Math.round(share * 100)}\u00a0%`;
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1) + ".";
}

function count(number, what) {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
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
  if (!event.dataTransfer?.types.includes("Files")) return; // dragged text goes its own way
  event.preventDefault(); // a file that misses the box would replace the page
  byId("drop").classList.toggle("over", event.type === "dragover");
  const [file] = event.type === "drop" ? event.dataTransfer.files : [];
  if (file !== undefined) fileGiven(file);
}

byId("model").textContent = config.model;
byId("docs").hidden = config.needsKey; // a link cannot carry the key
byId("key-field").hidden = !config.needsKey;
byId("horizon").max = config.maxHorizon;
byId("paths").max = config.maxSamples;
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
byId("file").addEventListener("change", () => {
  const [file] = byId("file").files;
  byId("file").value = ""; // the same file may be chosen again
  if (file !== undefined) fileGiven(file);
});
for (const kind of ["dragover", "dragleave", "drop"]) addEventListener(kind, dropping);
byId("form").addEventListener("submit", ask);
byId("cancel").addEventListener("click", () => running?.abort());
byId("shown").addEventListener("change", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
byId("plotly").addEventListener("load", draw);
byId("plotly").addEventListener("error", () => {
  byId("chart").textContent = "The chart's script did not arrive. All else works without it.";
});
copyButton("copy-table", tableText, "table");
copyButton("copy-curl", () => byId("curl").textContent, "command");
sampleChosen();
