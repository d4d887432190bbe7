// Show an answer on the page: summary, table and settings; and remove it.
"use strict";

/** Remove the results, because the form has changed since. */
function forget() {
  running?.abort();
  if (running !== null) stopWaiting();
  answer = null;
  byId("answer").hidden = byId("warnings").hidden = true;
  byId("summary").textContent = "Press Forecast to see how these candles might continue.";
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
    Model: config.forTrying ? `${answer.model}, not meant for trading` : answer.model,
    Revision: answer.model_revision ?? "none",
    "History to": labels([answer.as_of])[0],
    "Last close": price(answer.last_close),
    "Read by the tokenizer as": `${price(start.close)} (prices × ${start.factor.toFixed(4)})`,
    Paths: answer.samples,
    Temperature: request.temperature,
    top_p: request.top_p,
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
}

/** Scroll to the results if they are outside a small window or below a long list of candles. */
function bringIntoSight() {
  const { top, bottom } = byId("chart").getBoundingClientRect();
  if (top < 0 || bottom > innerHeight) byId("results").scrollIntoView({ block: "start" });
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
    ...(hasVolume ? [thousands(bar.volume)] : []),
  ]);
  byId("answer").querySelector("thead").replaceChildren(tableRow(head, "col"));
  byId("answer").querySelector("tbody").replaceChildren(...rows.map((row) => tableRow(row, "row")));
}

/** Return a row. Its first cell is a heading; in a header all cells are. */
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

/** Return the numbers in full precision, with the column names of KronosClient. */
function numbers() {
  const bars = answer.predictions;
  const levels = QUANTILES.map((level) => `close_p${Math.round(100 * level)}`);
  const plain = [...PRICES, ...(candles.bars[0].volume === undefined ? [] : ["volume"])];
  return [
    ["target_date", ...plain, ...levels, "prob_up"],
    ...bars.map((bar) => [
      bar.target_date,
      ...plain.map((name) => bar[name]),
      ...QUANTILES.map((level) => bar.close_quantiles[level]),
      bar.prob_up,
    ]),
  ];
}

/** Return the table for pasting into a spreadsheet. */
function tableText() {
  const rows = [...byId("answer").querySelectorAll("tr")];
  const text = rows.map((row) => [...row.cells].map((cell) => cell.textContent).join("\t"));
  return text.join("\n").replaceAll("\u00a0", " ").replaceAll(",", "");
}

function saveCsv() {
  const text = numbers().map((row) => row.join(",")).join("\n");
  const address = URL.createObjectURL(new Blob([`${text}\n`], { type: "text/csv" }));
  save(address, "csv");
  setTimeout(() => URL.revokeObjectURL(address), 60_000); // after the browser has read it
}

async function savePng() {
  save(await picture(), "png");
}

/** Download a file in the browser: AAPL-2013-01-31.png. */
function save(address, ending) {
  const symbol = byId("symbol").value.trim().replace(/[^\w.=^-]+/g, "-") || "candles";
  const until = answer?.as_of ?? candles?.bars.at(-1).timestamp ?? "";
  const link = element("a");
  link.href = address;
  link.download = `${symbol}-${until.slice(0, 10)}.${ending}`;
  link.click();
}

/** Return the request as a command, which takes the key from the environment. */
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
    copyBySelecting(text); // there is no clipboard in a frame, or without https
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

