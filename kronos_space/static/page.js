// The page at `/`: candles in, POST predict, a fan and a table out. No framework, no build step.
//
//   readCandles -> request -> ask -> showForecast -> draw
//
// Rows are counted as in an editor: the first line of the CSV is row 1. The service counts bars
// from 0; `inTheirRows` translates.
"use strict";

const config = JSON.parse(document.getElementById("config").textContent);
const QUANTILES = [0.1, 0.25, 0.5, 0.75, 0.9];
const PRICES = ["open", "high", "low", "close"];
const TIMES = ["timestamp", "datetime", "date", "time"]; // names of a column with the bar's time
const ISO = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?)?$/;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const LARGEST_FILE = 5e6; // bytes

const byId = (id) => document.getElementById(id);
const fields = ["csv", "symbol", "horizon", "paths", "seed", "key"];

let candles = null; // what readCandles made of the text; null: it cannot be used
let outcome = []; // bars of a sample that came after the history
let answer = null; // of the service, for these candles
let running = null; // AbortController of the request under way
let typing; // timer that ends when nothing was typed for a moment

// ---- Candles -------------------------------------------------------------------------------

class CsvError extends Error {
  constructor(row, message) {
    super(row === null ? message : `Row ${row}: ${message}.`);
    this.row = row;
  }
}

/** CSV text -> {bars, rows, notes}: bars oldest first, rows[i] the row that bar i stands in. */
function readCandles(text) {
  const lines = text
    .replace(/^\uFEFF/, "")
    .split(/\r\n|\r|\n/)
    .map((line, index) => ({ line, row: index + 1 }))
    .filter(({ line }) => line.trim() !== "");
  if (lines.length === 0) {
    throw new CsvError(null, "Paste candles, drop a file, or choose a sample.");
  }
  const [header, ...body] = lines;
  const delimiter = ["\t", ";", ","].find((mark) => header.line.includes(mark)) ?? ",";
  const columns = findColumns(splitLine(header.line, delimiter), header.row);
  if (body.length === 0) throw new CsvError(null, "There are no candles below the header.");

  let bars = body.map(({ line, row }) => readBar(splitLine(line, delimiter), columns, row, delimiter));
  let rows = body.map(({ row }) => row);
  const notes = [];
  if (bars[0].timestamp > bars.at(-1).timestamp) {
    bars.reverse();
    rows.reverse();
    notes.push("newest first, so turned round");
  }
  if (bars.length > config.maxHistory) {
    notes.push(`only the newest ${config.maxHistory} of ${bars.length} are sent`);
    bars = bars.slice(-config.maxHistory);
    rows = rows.slice(-config.maxHistory);
  }
  if (bars.every((bar) => bar.volume === null)) bars.forEach((bar) => delete bar.volume);
  const gap = bars.findIndex((bar) => bar.volume === null);
  if (gap >= 0) throw new CsvError(rows[gap], "volume is empty; give it in every row, or in none");
  return { bars, rows, notes };
}

function readBar(cells, columns, row, delimiter) {
  const cell = (name) => cells[columns[name]] ?? "";
  const time = cell("timestamp");
  if (!ISO.test(time)) {
    throw new CsvError(row, `date ${quoted(time)} is not like 2026-11-20 or 2026-11-20 15:30`);
  }
  const bar = { timestamp: time };
  for (const name of PRICES) bar[name] = readNumber(cell(name), name, row, delimiter);
  const hasVolume = "volume" in columns && cell("volume") !== "";
  bar.volume = hasVolume ? readNumber(cell("volume"), "volume", row, delimiter) : null;
  return bar;
}

/** Header cells -> the position of each column. Others, such as Yahoo's "Adj Close", are ignored. */
function findColumns(cells, row) {
  const names = cells.map((cell) => cell.toLowerCase().replace(/[^a-z]/g, ""));
  const columns = {};
  for (const name of [...PRICES, "volume"]) {
    if (names.includes(name)) columns[name] = names.indexOf(name);
  }
  const time = TIMES.find((name) => names.includes(name));
  if (time !== undefined) columns.timestamp = names.indexOf(time);
  const missing = ["timestamp", ...PRICES].filter((name) => !(name in columns));
  if (missing.length > 0) {
    const which = missing.map((name) => (name === "timestamp" ? "date" : name)).join(", ");
    throw new CsvError(row, `no column ${which}; the first row names the columns, such as ` +
      "date,open,high,low,close,volume");
  }
  return columns;
}

function splitLine(line, delimiter) {
  const cells = [""];
  let inQuotes = false;
  for (const letter of line) {
    if (letter === '"') inQuotes = !inQuotes;
    else if (letter === delimiter && !inQuotes) cells.push("");
    else cells[cells.length - 1] += letter;
  }
  return cells.map((cell) => cell.trim());
}

function readNumber(cell, name, row, delimiter) {
  // who separates by semicolons mostly does so because the comma is the decimal mark
  const plain = delimiter === ";" && !cell.includes(".") ? cell.replace(",", ".") : cell;
  if (cell === "") throw new CsvError(row, `${name} is empty`);
  if (!NUMBER.test(plain) || !Number.isFinite(Number(plain))) {
    throw new CsvError(row, `${name} ${quoted(cell)} is not a number like 1234.56`);
  }
  return Number(plain);
}

function quoted(text) {
  return `“${text.length > 40 ? text.slice(0, 40) + "…" : text}”`;
}

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
    candles = readCandles(byId("csv").value);
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
  ownCandles();
  if (file.size > LARGEST_FILE) {
    setError("csv", `${file.name} is larger than ${LARGEST_FILE / 1e6} MB.`);
    return;
  }
  byId("csv").value = await file.text();
  byId("symbol").value = file.name.replace(/\.[^.]*$/, "").slice(0, 64) || "My series";
  candlesChanged();
}

/** The request that the form describes, or null: then each wrong field says why. */
function readForm() {
  for (const name of fields) setError(name, "");
  byId("form-error").textContent = "";
  try {
    candles = readCandles(byId("csv").value);
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
  const made = {
    Model: answer.model,
    Revision: answer.model_revision ?? "none",
    "History to": labels([answer.as_of])[0],
    "Last close": price(answer.last_close),
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

// ---- The chart -----------------------------------------------------------------------------

/** The newest candles, and with an answer the fan; for a sample also what really came. */
function draw() {
  const chart = byId("chart");
  if (!globalThis.Plotly) return; // not there yet; it is large, and the form does not wait for it
  const shown = Number(byId("shown").value) || Infinity;
  const bars = candles === null ? [] : candles.bars.slice(-shown);
  const times = labels(bars.map((bar) => bar.timestamp));
  const traces = [candleTrace(bars, times)];
  const ahead = answer === null ? [] : labels(answer.predictions.map((bar) => bar.target_date));
  if (answer !== null) traces.push(...fanTraces(times.at(-1), ahead));
  const real = outcome.filter((bar) => ahead.includes(bar.timestamp));
  if (real.length > 0) {
    traces.push({
      type: "scatter",
      mode: "lines+markers",
      name: "outcome",
      x: [times.at(-1), ...real.map((bar) => bar.timestamp)],
      y: [bars.at(-1).close, ...real.map((bar) => bar.close)],
      line: { color: color("--actual"), dash: "dot", width: 2 },
      marker: { size: 5 },
      hovertemplate: "%{y}",
    });
  }
  globalThis.Plotly.react(chart, traces, layout([...times, ...ahead]), {
    displayModeBar: false,
    responsive: true,
  });
  chart.setAttribute("aria-label", chartInWords(bars, times, ahead));
}

function candleTrace(bars, times) {
  const column = (name) => bars.map((bar) => bar[name]);
  const look = (name) => ({ line: { color: color(name), width: 1 }, fillcolor: color(name) });
  return {
    type: "candlestick",
    name: "candles",
    x: times,
    open: column("open"),
    high: column("high"),
    low: column("low"),
    close: column("close"),
    increasing: look("--up"),
    decreasing: look("--down"),
    showlegend: false,
  };
}

/** The bands begin at the last close, where everything was still known. */
function fanTraces(last, ahead) {
  const x = [last, ...ahead];
  const at = (level) => [
    answer.last_close,
    ...answer.predictions.map((bar) => bar.close_quantiles[level]),
  ];
  const band = (low, high, name, fill) => ({
    type: "scatter",
    mode: "lines",
    name,
    x: [...x, ...x.toReversed()],
    y: [...at(low), ...at(high).toReversed()],
    fill: "toself",
    fillcolor: color(fill),
    line: { width: 0 },
    hoverinfo: "skip",
  });
  return [
    band(0.1, 0.9, "80 % band", "--band80"),
    band(0.25, 0.75, "50 % band", "--band50"),
    {
      type: "scatter",
      mode: "lines+markers",
      name: "median",
      x,
      y: at(0.5),
      line: { color: color("--accent"), width: 2 },
      marker: { size: 4 },
      text: at(0.1).map((low, step) => `${price(low)} to ${price(at(0.9)[step])}`),
      hovertemplate: "%{y}, 80 %: %{text}",
    },
  ];
}

function layout(times) {
  const axis = {
    gridcolor: color("--line"),
    linecolor: color("--line"),
    zeroline: false,
    fixedrange: true, // a finger on the chart scrolls the page; the list above zooms
  };
  return {
    xaxis: {
      ...axis,
      type: "category", // nights and weekends take no room
      categoryorder: "array",
      categoryarray: times,
      range: [-1, times.length],
      tickvals: everyFew(times, Math.floor(byId("chart").clientWidth / 120)),
      tickangle: 0,
      showgrid: false,
      rangeslider: { visible: false },
    },
    yaxis: { ...axis, side: "right", automargin: true, hoverformat: `.${digits()}f` },
    margin: { l: 12, r: 12, t: 36, b: 36 },
    legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom", entrywidth: 66 },
    hovermode: "x unified",
    hoverlabel: { bgcolor: color("--card"), font: { color: color("--text") } },
    font: { family: "system-ui, sans-serif", size: 12, color: color("--text") },
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
  };
}

/** At most `most` of the times, evenly spread and away from the edges. */
function everyFew(times, most) {
  const step = Math.max(1, Math.ceil(times.length / Math.max(2, most)));
  return times.filter((_, index) => index % step === Math.floor(step / 2));
}

function chartInWords(bars, times, ahead) {
  if (bars.length === 0) return "No candles yet";
  const past = `${bars.length} candles from ${times[0]} to ${times.at(-1)}`;
  if (ahead.length === 0) return past;
  return `${past}, and the forecast's fan to ${ahead.at(-1)}; the table below has its numbers`;
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
if (matchMedia("(max-width: 40rem)").matches) byId("shown").value = "40";

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
