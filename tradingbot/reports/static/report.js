// The charts of the report. A chart is drawn just before it becomes visible, so that a page with many
// tickers opens quickly. Until then plotly is stored in the page compressed.
"use strict";

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const percent = (share) => (share === null ? null : 100 * share);

const draw = { fan, past, reliability, pit, skill, shares };
const charts = [...document.querySelectorAll(".chart")];

const PAPER = { width: 400, height: 215 }; // size of a chart; report.css scales it to its column
let onPaper = false;
let plotly = null; // promise of plotly

/** plotly, unpacked and run once. */
function loadPlotly() {
  plotly ??= (async () => {
    const packed = Uint8Array.from(atob(byId("plotly").textContent), (byte) => byte.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    byId("plotly").remove();
  })();
  return plotly;
}

async function show(chart) {
  if (chart.dataset.state === "drawn") return;
  chart.dataset.state = "waiting";
  try {
    await loadPlotly();
  } catch {
    chart.dataset.state = "failed";
    chart.textContent = "The charts need a browser of 2023 or later. The tables have the numbers.";
    return;
  }
  render(chart);
}

function render(chart) {
  const { chart: kind, ticker } = chart.dataset;
  const narrow = onPaper || chart.clientWidth < 480;
  const { traces, layout } = draw[kind](ticker && data.tickers[Number(ticker)], narrow);
  const size = onPaper ? { ...PAPER, autosize: false } : { autosize: true };
  const options = { displayModeBar: false, responsive: !onPaper };
  Plotly.react(chart, traces, { ...layout, ...size }, options);
  for (const drawing of chart.querySelectorAll(".main-svg")) {
    if (onPaper) drawing.setAttribute("viewBox", `0 0 ${PAPER.width} ${PAPER.height}`);
    else drawing.removeAttribute("viewBox");
  }
  chart.dataset.state = "drawn";
}

// the charts of a ticker ------------------------------------------------------------------------

/** The newest candles and the newest forecast's fan. */
function fan(ticker, narrow) {
  const { fan, ohlc } = ticker;
  const all = data.calendars[ticker.calendar];
  const from = Math.max(0, all.length - (narrow ? 45 : all.length));
  const days = all.slice(from);
  const [open, high, low, close] = ohlc.map((column) => column.slice(from));
  const traces = [];
  if (fan) {
    const x = [fan.as_of, ...fan.days];
    const at = (i) => [fan.last_close, ...fan.quantiles[i]];
    traces.push(
      band(x, at(0), at(4), "80 % band", "--band80"),
      band(x, at(1), at(3), "50 % band", "--band50"),
      {
        ...line(x, at(2), "median", "--forecast"),
        mode: "lines+markers",
        marker: { size: 4 },
        customdata: x.map((_, i) => [at(0)[i], at(4)[i]]),
        hovertemplate: "%{y:.5~g}, 80 %: %{customdata[0]:.5~g} to %{customdata[1]:.5~g}",
      },
    );
  }
  if (days.length > 0) {
    const look = (fill) => ({ line: { color: color("--candle"), width: 1 }, fillcolor: fill });
    traces.push({
      type: "candlestick",
      name: "candles",
      x: days,
      open,
      high,
      low,
      close,
      increasing: look(color("--card")), // hollow: up; filled: down
      decreasing: look(color("--candle")),
      showlegend: false,
    });
  }
  const times = [...new Set([...days, ...(fan ? [fan.as_of, ...fan.days] : [])])].sort();
  return { traces, layout: layout({ xaxis: dates(times, narrow), yaxis: prices() }) };
}

/** The forecast of each session some steps before it, and its close. */
function past(ticker, narrow) {
  const days = data.calendars[ticker.calendar];
  const closes = ticker.ohlc[3];
  const steps = ticker.past;
  const traces = steps.flatMap((said, row) => {
    const axes = { yaxis: row === 0 ? "y" : `y${row + 1}`, showlegend: row === 0 };
    const [q10, q25, q50, q75, q90] = said.quantiles;
    const outside = closes.map((close, i) =>
      q10[i] !== null && (close < q10[i] || close > q90[i]) ? close : null,
    );
    return [
      band(days, q10, q90, "80 % band", "--band80"),
      band(days, q25, q75, "50 % band", "--band50"),
      { ...line(days, q50, "median", "--forecast"), hovertemplate: "%{y:.5~g}" },
      { ...line(days, closes, "close", "--came"), hovertemplate: "%{y:.5~g}" },
      {
        type: "scatter",
        mode: "markers",
        name: "outside",
        x: days,
        y: outside,
        marker: { symbol: "x-thin", size: 8, line: { width: 2, color: color("--came") } },
        hoverinfo: "skip",
      },
    ].map((trace) => ({ ...trace, ...axes }));
  });
  const height = 1 / steps.length;
  const rows = steps.map((_, row) => ({
    ...prices(),
    domain: [1 - (row + 0.9) * height, 1 - row * height - 0.07 * height],
  }));
  const axes = Object.fromEntries(rows.map((axis, row) => [`yaxis${row ? row + 1 : ""}`, axis]));
  const xaxis = { ...dates(days, narrow), anchor: rows.length > 1 ? `y${rows.length}` : "y" };
  const annotations = steps.map(({ step }, row) => ({
    text: step === 1 ? "1 session ahead" : `${step} sessions ahead`,
    x: 0,
    xref: "paper",
    y: rows[row].domain[1],
    yref: "paper",
    yanchor: "bottom",
    showarrow: false,
    font: { color: color("--quiet"), size: 11 },
  }));
  const margin = { l: 12, r: 12, t: narrow ? 54 : 30, b: 24 }; // room for a legend of two lines
  return { traces, layout: layout({ xaxis, ...axes, annotations, margin }) };
}

// the charts of the record ----------------------------------------------------------------------

function reliability() {
  const { reliability } = data;
  const nominal = reliability.nominal.map(percent);
  const traces = [
    {
      ...line([0, 100], [0, 100], "what it should be", "--quiet"),
      line: { color: color("--quiet"), dash: "dot", width: 1 },
      hoverinfo: "skip",
      showlegend: false,
    },
    ...measured(nominal, reliability, "%{x} % band held %{y:.0f} %"),
  ];
  const axis = { ...plain(), range: [0, 100], dtick: 20, ticksuffix: " %" };
  return {
    traces,
    layout: layout({
      xaxis: { ...axis, title: title("width of the band") },
      yaxis: { ...axis, title: title("closes inside it") },
      showlegend: Boolean(reliability.raw),
      hovermode: "closest",
    }),
  };
}

function pit() {
  const { pit } = data;
  const middle = pit.given.value.map((_, i) => (100 * (i + 0.5)) / pit.given.value.length);
  const even = 100 / middle.length;
  const bars = {
    type: "bar",
    name: pit.raw ? "served" : "raw",
    x: middle,
    y: pit.given.value.map(percent),
    error_y: spread(pit.given),
    marker: { color: color("--band50"), line: { color: color("--forecast"), width: 1 } },
    hovertemplate: "%{y:.1f} % of the closes",
  };
  const raw = pit.raw && {
    type: "scatter",
    mode: "markers",
    name: "raw",
    x: middle,
    y: pit.raw.value.map(percent),
    marker: { symbol: "diamond-open", color: color("--came"), size: 7 },
    hovertemplate: "raw %{y:.1f} %",
  };
  return {
    traces: raw ? [bars, raw] : [bars],
    layout: layout({
      xaxis: { ...plain(), range: [0, 100], dtick: 20, ticksuffix: " %",
        title: title("place in the forecast") },
      yaxis: { ...plain(), rangemode: "tozero", ticksuffix: " %", title: title("closes there") },
      shapes: [level(even)],
      bargap: 0.05,
      showlegend: Boolean(raw),
      hovermode: "closest",
    }),
  };
}

function skill() {
  const { skill } = data;
  return {
    traces: measured(skill.steps, skill, "%{x} ahead: %{y:.1f} %"),
    layout: layout({
      xaxis: { ...plain(), dtick: skill.steps.length > 10 ? 5 : 1, title: title("sessions ahead"),
        range: [skill.steps[0] - 0.5, skill.steps.at(-1) + 0.5] },
      yaxis: { ...plain(), rangemode: "tozero", ticksuffix: " %", title: title("CRPS skill") },
      shapes: [level(0)],
      showlegend: Boolean(skill.raw),
      hovermode: "closest",
    }),
  };
}

/** The share of each forecaster in what was served, day by day. */
function shares(_, narrow) {
  const { days, names, values } = data.shares;
  const looks = [["--forecast", "solid"], ["--came", "dash"], ["--candle", "dot"], ["--text", "dashdot"]];
  const traces = names.map((name, i) => {
    const [of, dash] = looks[i];
    const drawn = line(days, values[i].map(percent), name, of);
    return { ...drawn, line: { ...drawn.line, dash }, hovertemplate: "%{y:.0f} %" };
  });
  return {
    traces,
    layout: layout({
      xaxis: dates(days, narrow),
      yaxis: { ...plain(), rangemode: "tozero", ticksuffix: " %", title: title("share") },
    }),
  };
}

/** Points with their intervals: served quantiles, and next to them the model's. */
function measured(x, { given, raw }, hovertemplate) {
  const points = (values, name, look, dx) => ({
    type: "scatter",
    mode: "markers",
    name,
    x: x.map((at) => at + dx),
    y: values.value.map(percent),
    error_y: spread(values),
    marker: { size: 8, ...look },
    customdata: x,
    hovertemplate: hovertemplate.replace("%{x}", "%{customdata}"),
  });
  const gap = (x.length > 1 ? x[1] - x[0] : 1) * 0.07; // side by side, not overlapping
  const blue = { color: color("--forecast") };
  if (!raw) return [points(given, "raw", blue, 0)];
  const open = { color: color("--came"), symbol: "diamond-open" };
  return [points(given, "served", blue, -gap), points(raw, "raw", open, gap)];
}

function spread({ value, low, high }) {
  if (low === null) return { visible: false };
  return {
    type: "data",
    symmetric: false,
    array: value.map((at, i) => (at === null ? 0 : 100 * (high[i] - at))),
    arrayminus: value.map((at, i) => (at === null ? 0 : 100 * (at - low[i]))),
    thickness: 1,
    width: 2,
    color: color("--quiet"),
  };
}

// parts of charts -------------------------------------------------------------------------------

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const line = (x, y, name, of) => ({
  type: "scatter",
  mode: "lines",
  connectgaps: y.every((value, i) => value === null || (y[i - 1] ?? null) === null),
  name,
  x,
  y,
  line: { color: color(of), width: 1.75 },
});

/** The area between two lines; it is interrupted where a value is missing, except forecasts that
    were made every few sessions only. */
function band(x, low, high, name, fill) {
  if (low.every((value, i) => value === null || (low[i - 1] ?? null) === null)) {
    const there = low.flatMap((value, i) => (value === null ? [] : [i]));
    [x, low, high] = [x, low, high].map((values) => there.map((i) => values[i]));
  }
  const outline = { x: [], y: [] };
  for (let start = 0; start < x.length; start++) {
    if (low[start] === null) continue;
    let end = start;
    while (end < x.length && low[end] !== null) end++;
    const there = x.slice(start, end);
    outline.x.push(...there, ...there.toReversed(), null);
    outline.y.push(...low.slice(start, end), ...high.slice(start, end).toReversed(), null);
    start = end;
  }
  return {
    type: "scatter",
    mode: "lines",
    name,
    ...outline,
    fill: "toself",
    fillcolor: color(fill),
    line: { width: 0 },
    hoverinfo: "skip",
  };
}

function layout(more) {
  return {
    margin: { l: 12, r: 12, t: more.showlegend === false ? 12 : 30, b: 24 },
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", itemclick: false,
      itemdoubleclick: false },
    hovermode: "x unified",
    hoverlabel: { bgcolor: color("--card"), font: { color: color("--text") } },
    font: { family: "system-ui, sans-serif", size: 12, color: color("--text") },
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    dragmode: false, // a finger on a chart scrolls the page
    ...more,
  };
}

const plain = () => ({
  gridcolor: color("--line"),
  linecolor: color("--line"),
  zeroline: false,
  fixedrange: true,
  automargin: true,
});

const prices = () => ({ ...plain(), side: "right", nticks: 6 });

/** Sessions side by side: nights and weekends take no room. */
function dates(days, narrow) {
  const every = Math.ceil(days.length / (narrow ? 3 : 5));
  return {
    ...plain(),
    type: "category",
    categoryorder: "array",
    categoryarray: days,
    range: [-1, days.length],
    tickvals: days.filter((_, i) => i % every === Math.floor(every / 2)),
    tickangle: 0,
    showgrid: false,
    rangeslider: { visible: false },
  };
}

const title = (text) => ({ text, font: { color: color("--quiet"), size: 11 }, standoff: 6 });

const level = (y) => ({
  type: "line",
  xref: "paper",
  x0: 0,
  x1: 1,
  y0: y,
  y1: y,
  line: { color: color("--text"), width: 1.5, dash: "dot" },
});

// the page --------------------------------------------------------------------------------------

/** A click on the head of a column sorts by it; rows without a value stay last. */
function makeSortable(table) {
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort"); // values: best first; names: A to Z
      const descending = column === 0 ? now === "ascending" : now !== "descending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = [...table.tBodies[0].rows];
      rows.sort((one, two) => compare(one.cells[column], two.cells[column], descending ? -1 : 1));
      table.tBodies[0].append(...rows);
    });
  }
}

function compare(one, two, direction) {
  const [a, b] = [one.dataset.value, two.dataset.value];
  if (a === undefined && b === undefined) {
    return direction * one.textContent.localeCompare(two.textContent);
  }
  if (!a || !b) return Number(!a) - Number(!b);
  return direction * (Number(a) - Number(b));
}

function filterTickers() {
  const wanted = byId("find").value.trim().toUpperCase();
  const all = [...document.querySelectorAll(".ticker")];
  for (const one of all) one.hidden = !one.dataset.symbol.toUpperCase().includes(wanted);
  const left = all.filter((one) => !one.hidden).length;
  byId("found").textContent = wanted === "" ? "" : `${left} of ${all.length}`;
}

for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
byId("find")?.addEventListener("input", filterTickers);

const watcher = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      show(target);
    }
  },
  { rootMargin: "400px" },
);
for (const chart of charts) watcher.observe(chart);

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const chart of charts) if (chart.dataset.state === "drawn") render(chart);
});

/** For paper all charts are drawn, in its colours and its size, and all tables are unfolded. */
function print(begins) {
  if (begins === onPaper) return;
  onPaper = begins;
  document.documentElement.classList.toggle("paper", onPaper);
  for (const one of document.querySelectorAll("details")) {
    if (onPaper) one.dataset.before = one.open ? "open" : "";
    one.open = onPaper || one.dataset.before === "open";
  }
  for (const chart of charts) {
    if (globalThis.Plotly) render(chart);
    else if (onPaper) show(chart);
  }
}

addEventListener("beforeprint", () => print(true));
addEventListener("afterprint", () => print(false));
matchMedia("print").addEventListener("change", ({ matches }) => print(matches));
loadPlotly().catch(() => {}); // load it early, in case the page is printed at once
