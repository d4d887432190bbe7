// The chart of the page: the newest candles, the forecast's fan, and for a sample the actual closes.
"use strict";

/** Draw the newest candles, an answer's fan, and for a sample the realised closes. */
function draw() {
  const chart = byId("chart");
  if (!globalThis.Plotly) return; // not loaded yet; it is large, and the form does not wait for it
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

/** On paper, fit the chart to the width of the page instead of the screen. */
function chartForPaper(begins) {
  const chart = document.getElementById("chart");
  if (!chart.data) return;
  const size = begins ? { width: 660, height: 340 } : { width: null, height: null, autosize: true };
  globalThis.Plotly.relayout(chart, size);
}

addEventListener("beforeprint", () => chartForPaper(true));
addEventListener("afterprint", () => chartForPaper(false));

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

/** Return the bands, which begin at the last close. */
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
      type: "category", // leave out nights and weekends
      categoryorder: "array",
      categoryarray: times,
      range: [-1, times.length],
      tickvals: everyFew(times, Math.floor(byId("chart").clientWidth / 120)),
      tickangle: 0,
      showgrid: false,
      rangeslider: { visible: false },
    },
    yaxis: {
      ...axis,
      side: "right",
      automargin: true,
      separatethousands: true,
      exponentformat: digits() > 4 ? "none" : "B", // 0.00000096 instead of 0.96µ; 105B
      hoverformat: `,.${digits()}f`,
    },
    margin: { l: 12, r: 12, t: 36, b: 36 },
    legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom", entrywidth: 66 },
    hovermode: "x unified",
    hoverlabel: { bgcolor: color("--card"), font: { color: color("--text") } },
    font: { family: "system-ui, sans-serif", size: 12, color: color("--text") },
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
  };
}

/** Return the chart with a title as a PNG, as a data URL. */
function picture() {
  const { data, layout } = byId("chart");
  const of = config.forTrying ? `${config.model}, not meant for trading` : config.model;
  const symbol = byId("symbol").value.trim();
  const shown = {
    ...layout,
    title: {
      text: answer === null ? symbol : byId("results-title").textContent,
      subtitle: { text: answer === null ? "" : `${of}; ${count(answer.samples, "path")}` },
      x: 0.01,
    },
    margin: { l: 24, r: 24, t: 110, b: 48 },
    paper_bgcolor: color("--card"),
  };
  return globalThis.Plotly.toImage({ data, layout: shown }, {
    format: "png", width: 1200, height: 675, scale: 2,
  });
}

/** Return at most `most` of the times, evenly spread and away from the edges. */
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
