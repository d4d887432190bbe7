// Read candles from CSV text in common formats: exports of brokers, of Yahoo, of spreadsheets.
//
// Dates and numbers may be written in many ways, but an ambiguous value is refused with its row. Rows
// are line numbers: the first line of the text is row 1. The reader of the nightly job follows the same
// rules; one table of files tests both.
"use strict";

const SEPARATORS = ["\t", ";", ",", "|"];
// Recognised by their headings and refused: most of them decode any bytes, so a guess can be wrong.
const OTHER_ENCODINGS = [
  "GBK", "Shift-JIS", "Big5", "EUC-KR", "EUC-JP", "Windows-1251", "Windows-1250",
];
const PREAMBLE = 40; // the header is among this many first lines, not counting comments

class CsvError extends Error {
  constructor(row, message, tickers = []) {
    super(row === null ? message : `Row ${row}: ${message}.`);
    this.row = row;
    this.tickers = tickers; // the user has to choose one of these
  }
}

/**
 * CSV text -> {bars, rows, notes}: bars oldest first, rows[i] is the row of bar i.
 * A text with several tickers needs the chosen one.
 */
function readCandles(text, most = Infinity, ticker = null) {
  const lines = linesOf(text);
  if (lines.length === 0) {
    throw new CsvError(null, "Paste candles, drop a file, or choose a sample.");
  }
  const header = findHeader(lines, ticker);
  const records = recordsBelow(header, lines);
  const notes = [];
  const { position } = header.columns;
  const places = [...PRICES, "volume", "ticks"].map((name) => position[name]);
  places.push(...header.columns.volumes);
  const used = places.filter((place) => place !== undefined);
  const settled = settledMark(used.flatMap((place) => records.map(({ cells }) => cells[place])));

  const own = ofTicker(records, position, ticker);
  const priced = own.filter((record) => isBar(record, position));
  const left = own.length - priced.length;
  if (left > 0) notes.push(`${left} ${left === 1 ? "row" : "rows"} without prices left out`);
  const full = priced.filter((record) => !isRunning(record, position));
  const running = priced.length - full.length;
  if (running > 0) notes.push(`bars left out because the file says they are running: ${running}`);
  if (full.length === 0) throw new CsvError(null, "There are no candles below the header.");
  if (ticker === null) refuseSeveralTickers(full, position);
  const { times, byProgram } = timesOf(full, position, notes);
  const mark = settled.mark ?? markOf(settled.doubtful, records, used, header, byProgram);
  let bars = full.map((record, index) => readBar(record, position, times[index], mark));
  addVolumes(bars, full, header, mark, notes);
  if (header.cells === null) refuseOtherOrder(bars);

  let rows = full.map(({ row }) => row);
  const moment = (bar) => new Date(bar.timestamp.replace(" ", "T"));
  if (moment(bars[0]) > moment(bars.at(-1))) {
    bars.reverse();
    rows.reverse();
    notes.push("newest first, so turned round");
  }
  if (bars.length > most) {
    notes.push(`only the newest ${thousands(most)} of ${thousands(bars.length)} are sent`);
    bars = bars.slice(-most);
    rows = rows.slice(-most);
  }
  return { bars, rows, notes };
}

/** Return the non-blank lines. A list of lists or of objects, as from an API, becomes lines. */
function linesOf(text) {
  let lines = text.replace(/^\uFEFF/, "").split(/\r\n|\r|\n/);
  if (/^\s*\[\s*[[{]/.test(text)) {
    try {
      lines = linesOfJson(JSON.parse(text));
    } catch (error) {
      throw new CsvError(
        null, `It begins as JSON and is not a list of lists or of objects (${error.message}).`,
      );
    }
  }
  return lines
    .map((line, index) => ({ line, row: index + 1 }))
    .filter(({ line }) => line.trim() !== "");
}

function linesOfJson(rows) {
  if (Array.isArray(rows[0])) return rows.map((row) => row.join(","));
  const names = Object.keys(rows[0]);
  return [names.join(","), ...rows.map((row) => names.map((name) => row[name]).join(","))];
}

/** Return the header, or its substitute in a file that begins with its first candle. */
function findHeader(lines, ticker) {
  let nearest = null;
  const words = []; // separators of lines that could be a header with unknown names
  const isComment = ({ line }) => line.startsWith("#");
  const last = lines.filter((each) => !isComment(each))[PREAMBLE - 1] ?? lines.at(-1);
  for (const { line, row } of lines.slice(0, lines.indexOf(last) + 1)) {
    const found = withoutHeader(line, row);
    if (found !== null) {
      if (words.includes(found.separator)) break;
      return found;
    }
    for (const header of readings(line.replace(/^[#% ]+/, ""), row)) {
      const { missing, doubled } = header.columns;
      if (missing.length === 0 && doubled !== "") return headerOf(ticker, header, lines);
      if (missing.length === 0) return header;
      if (nearest === null || missing.length < nearest.columns.missing.length) nearest = header;
      if (header.cells.filter((cell) => /\p{L}/u.test(cell)).length >= 4) {
        words.push(header.separator);
      }
    }
  }
  const missing = nearest.columns.missing.map((name) => (name === "time" ? "date" : name));
  throw new CsvError(nearest.row, `no column ${missing.join(", ")}; the first row names the ` +
    "columns, such as date,open,high,low,close,volume");
}

/** Keep one ticker of a header of several, whose names are in the line above or below it. */
function headerOf(ticker, header, lines) {
  const at = lines.findIndex(({ row }) => row === header.row);
  const close = header.cells.flatMap((cell, i) => (simplified(cell) === "close" ? [i] : []));
  const names = [lines[at - 1], lines[at + 1]]
    .map((each) => (each === undefined ? [] : splitLine(each.line, header.separator)))
    .find((cells) => close.length > 1 && areNames(close.map((place) => cells[place] ?? "")));
  const tickers = names === undefined ? [] : close.map((place) => names[place]);
  if (!tickers.includes(ticker)) throw new CsvError(header.row, header.columns.doubled, tickers);
  const cells = header.cells.map((cell, i) => (tickers.includes(names[i]) && names[i] !== ticker ? "" : cell));
  return { ...header, cells, columns: findColumns(cells) };
}

function areNames(cells) {
  const words = cells.filter((cell) => cell !== "" && !isTime(cell) && simplified(cell) !== "close");
  return new Set(words).size === cells.length;
}

/** Return the line read as a header with each separator in it, the likeliest first. */
function readings(line, row) {
  const marks = SEPARATORS.filter((mark) => line.includes(mark));
  const found = (marks.length > 0 ? marks : [","]).map((separator) => {
    const cells = splitLine(line, separator);
    return { cells, row, separator, columns: findColumns(cells) };
  });
  return found.sort((one, other) => one.columns.missing.length - other.columns.missing.length);
}

/**
 * Return the columns of a line without header: date, [time], open, high, low, close, [volume]. Programs that
 * write no header write times as epochs, 20260102 or 2026.01.02.
 */
function withoutHeader(line, row) {
  for (const separator of SEPARATORS) {
    const cells = splitLine(line, separator);
    for (const place of [0, 1, 2]) {
      if (!isTime(cells[place] ?? "") || cells[place][4] === "-") continue;
      const position = { time: place };
      let first = place + 1;
      if (isClock(cells[first] ?? "") && cells.length > first + 4) position.clock = first++;
      const numbers = cells.slice(first, first + 5);
      if (numbers.length < 4 || !numbers.every((cell) => NUMERIC.test(cell))) continue;
      numbers.forEach((_, i) => (position[[...PRICES, "volume"][i]] = first + i));
      return { cells: null, row: row - 1, separator, columns: { position, volumes: [] } };
    }
  }
  return null;
}

/** Return the rows below the header, without the rest of a multi-line header, as of yfinance. */
function recordsBelow(header, lines) {
  const { position } = header.columns;
  const width = header.cells?.length ?? Infinity;
  const records = lines
    .filter(({ row }) => row > header.row)
    .map(({ line, row }) => ({ cells: splitLine(line, header.separator), row }))
    .filter(({ cells }) => cells.some((cell) => cell !== "") && !cells[0].startsWith("#"));
  for (let more = 0; header.cells !== null && more < 3 && records.length > 0; more++) {
    const { cells } = records[0];
    const begins = cells[position.time] ?? "";
    const hasNumbers = PRICES.some((name) => NUMERIC.test(cells[position[name]] ?? ""));
    if (isTime(begins) || (begins !== "Ticker" && hasNumbers)) break;
    records.shift();
  }
  for (const { cells, row } of records) {
    if (cells.length > width && cells.slice(width).some((cell) => cell !== "")) {
      throw new CsvError(row, `${cells.length} values under a header of ${width}; ` +
        "numbers are written without thousands separators, or in quotes");
    }
    const places = [...Object.values(position), ...header.columns.volumes];
    for (const place of places) cells[place] ??= "";
  }
  return records;
}

function splitLine(line, separator) {
  if (!line.includes('"')) return line.split(separator).map((cell) => cell.trim());
  const cells = [""];
  let inQuotes = false;
  for (const letter of line) {
    if (letter === '"') inQuotes = !inQuotes;
    else if (letter === separator && !inQuotes) cells.push("");
    else cells[cells.length - 1] += letter;
  }
  return cells.map((cell) => cell.trim());
}

/**
 * Leave out days without trading, dividends, splits and footnotes: they have words instead of prices,
 * and at most one number besides one word.
 */
function isBar({ cells }, position) {
  const prices = PRICES.map((name) => cells[position[name]]).filter((cell) => !MISSING.test(cell));
  const words = prices.filter((cell) => !NUMERIC.test(bareNumber(cell)) && /\p{L}/u.test(cell));
  const isEvent = words.length > 0 && (words.length === prices.length || prices.length === 2);
  return prices.length > 0 && !isEvent;
}

/** Return whether a column marks the bar as incomplete when the file was written. */
function isRunning({ cells }, position) {
  return "complete" in position && RUNNING.includes(cells[position.complete].toLowerCase());
}

/** Return the records' times as ISO 8601. All must have the format of the first. */
function timesOf(records, position, notes) {
  const [first] = records;
  const clock = "clock" in position ? paddedClock(first.cells[position.clock]) : "";
  const hasClock = isClock(clock) && !first.cells[position.time].includes(":");
  const texts = records.map(({ cells }) =>
    `${cells[position.time].replaceAll("'", "")} ${hasClock ? cells[position.clock] : ""}`.trim());
  let read;
  try {
    read = readTimes(texts);
  } catch (error) {
    if (!(error instanceof CellError)) throw error;
    const at = error.position;
    throw new CsvError(records[at].row, `date ${quoted(texts[at])} ${error.message}`);
  }
  const wrong = read.times.indexOf(null);
  if (wrong >= 0) {
    const like = wrong === 0 ? "2026-11-20, 20.11.2026 or 2026-11-20 15:30" : `${texts[0]}, the first`;
    throw new CsvError(records[wrong].row, `date ${quoted(texts[wrong])} is not like ${like}`);
  }
  notes.push(...read.notes);
  return read;
}

/** Return the decimal mark of numbers that all have three digits after their only mark. */
function markOf(doubtful, records, places, header, byProgram) {
  if (doubtful === null) return ".";
  const { cells, row } = records[doubtful % records.length];
  const place = places[Math.floor(doubtful / records.length)];
  const text = cells[place];
  const time = header.cells?.[header.columns.position.time].toLowerCase() ?? "";
  const ofProgram = header.cells === null || /^<|^(gmt|local) time$/.test(time);
  if (text.includes(".") && (byProgram || ofProgram)) return ".";
  // files with semicolons as separators use the comma as decimal mark
  if (text.includes(",") && header.separator === ";") return ",";
  const name = [...PRICES].find((column) => header.columns.position[column] === place) ?? "volume";
  throw new CsvError(row, `${name} ${quoted(text)} ${twoReadings(text)}`);
}

function readBar({ cells, row }, position, timestamp, mark) {
  const bar = { timestamp };
  for (const name of PRICES) bar[name] = readNumber(cells[position[name]], name, row, mark);
  return bar;
}

function readNumber(cell, name, row, mark) {
  if (MISSING.test(cell)) throw new CsvError(row, `${name} is empty`);
  const value = toNumber(cell, mark);
  if (!Number.isFinite(value)) {
    throw new CsvError(row, `${name} ${quoted(cell)} is not a number like 1234${mark}56`);
  }
  return value;
}

/** Set every bar's volume in units of the traded asset, if a column has it. */
function addVolumes(bars, records, header, mark, notes) {
  const { position, volumes } = header.columns;
  const read = (place) => records.map(({ cells, row }) =>
    MISSING.test(cells[place]) ? null : readNumber(cells[place], "volume", row, mark));
  let found;
  if (volumes.length > 0) {
    const choices = volumes.map((place) => ({ place, name: header.cells[place], values: read(place) }));
    found = baseVolume(choices, bars, tickerOf(records, position));
    if (found === undefined) {
      const names = choices.map(({ name }) => name).join(" and ");
      notes.push(`no volume: none of ${names} is known to be in units of what is traded`);
    }
  } else {
    // MetaTrader: currencies have only ticks, and a volume of 0 throughout
    const named = [position.volume, position.ticks].filter((place) => place !== undefined);
    found = named.map(read).find((values) => values.some((value) => value));
    if (named.length === 0) noteUnknownVolumes(bars, records, header, mark, notes);
  }
  if (found === undefined) return;
  const gaps = found.filter((value) => value === null).length;
  if (gaps > 0) notes.push(`${gaps} ${gaps === 1 ? "row" : "rows"} without a volume, which counts as 0`);
  bars.forEach((bar, i) => (bar.volume = found[i] ?? 0));
}

/** Name columns under unknown headings whose numbers could be a volume. */
function noteUnknownVolumes(bars, records, header, mark, notes) {
  const used = Object.values(header.columns.position);
  const names = (header.cells ?? []).filter((cell, place) => {
    const values = records.map(({ cells }) => toNumber(cells[place] ?? "", mark));
    return !used.includes(place) && mayBeVolume(cell, values, bars.map(({ close }) => close));
  });
  if (names.length === 0) return;
  notes.push(`no volume: ${names.join(" or ")} could be it, but the heading is not known; ` +
    "if it counts what is traded, rename it to volume");
}

/** Return whether most values are positive, none is negative, and they are not like prices. */
function mayBeVolume(heading, values, closes) {
  const name = simplified(heading);
  const otherwise = name.split(" ").some((word) => OTHER.includes(word) || BEFORE.includes(word));
  const isKnown = Object.values(NAMES).some((names) => names.includes(name));
  if (INDEX.includes(name) || otherwise || isKnown) return false;
  const known = values.filter(Number.isFinite);
  const positive = known.filter((value) => value > 0).length;
  if (2 * known.length < values.length || known.some((value) => value < 0)) return false;
  const ratios = values.map((value, i) => value / closes[i]).filter(Number.isFinite);
  const ratio = ratios.sort((one, other) => one - other)[Math.floor(ratios.length / 2)];
  const likePrices = ratio > 0.5 && ratio < 2;
  return 2 * positive > known.length && !likePrices && (known.length === 1 || new Set(known).size > 1);
}

/** Choose between "Volume BTC" and "Volume USDT": by the ticker, else by the numbers. */
function baseVolume(choices, bars, ticker) {
  const unit = ({ name }) => simplified(name).split(" ")[1].toUpperCase();
  const byName = choices.filter((choice) => ticker !== "" && ticker.startsWith(unit(choice)));
  const byPrice = choices.filter((base) =>
    choices.some((quote) => quote !== base && isNear(base.values, quote.values, bars)));
  const alone = choices.filter((choice) => ticker === "" || !ticker.endsWith(unit(choice)));
  const ways = [byName, byPrice, choices.length === 1 ? alone : []];
  return ways.find((found) => found.length === 1)?.[0].values;
}

/** Return whether volume x price is the other volume. */
function isNear(volumes, others, bars) {
  const ratios = bars.map(({ close }, i) => (volumes[i] * close) / others[i]);
  const sorted = ratios.filter(Number.isFinite).sort((one, other) => one - other);
  return Math.abs(sorted[Math.floor(sorted.length / 2)] - 1) < 0.1;
}

/** Return letters and digits of the ticker in a column such as BTC/USDT. */
function tickerOf(records, position) {
  if (!("symbol" in position)) return "";
  return records[0].cells[position.symbol].replace(/[^\p{L}\d]/gu, "").toUpperCase();
}

/** Return the rows of this ticker, if a column has tickers. */
function ofTicker(records, position, ticker) {
  if (ticker === null || !("symbol" in position)) return records;
  return records.filter(({ cells }) => cells[position.symbol] === ticker);
}

/** Refuse rows of several tickers. */
function refuseSeveralTickers(records, position) {
  if (!("symbol" in position)) return;
  const tickers = [...new Set(records.map(({ cells }) => cells[position.symbol]))];
  if (tickers.length === 1) return;
  const [first, name] = tickers;
  const { row } = records.find(({ cells }) => cells[position.symbol] === name);
  const message = `${quoted(name)} follows ${quoted(first)}; expected the rows of one ticker`;
  throw new CsvError(row, message, tickers.filter((ticker) => ticker !== ""));
}

/** Check the order open, high, low, close of a file without header by its numbers. */
function refuseOtherOrder(bars) {
  const wrong = bars.filter(({ open, high, low, close }) =>
    high < Math.max(open, close, low) || low > Math.min(open, close, high));
  if (wrong.length > 0.01 * bars.length) {
    throw new CsvError(null, "There is no header, and the columns are not in the order open, high, " +
      "low, close; write a first row as date,open,high,low,close,volume.");
  }
}

function quoted(text) {
  return `“${text.length > 40 ? text.slice(0, 40) + "…" : text}”`;
}

/** Decode a file: UTF-8, UTF-16 (written by spreadsheets) or Windows-1252. Throws CsvError. */
async function textOf(file, largest) {
  if (file.size > largest) {
    throw new CsvError(null, `${file.name} is larger than ${largest / 1e6} MB; its newest rows will do.`);
  }
  const bytes = new Uint8Array(await file.arrayBuffer());
  const [first, second] = bytes;
  let encoding = "utf-8";
  if ((first === 0xff && second === 0xfe) || second === 0) encoding = "utf-16le";
  if ((first === 0xfe && second === 0xff) || first === 0) encoding = "utf-16be";
  const text = decoded(bytes, encoding) ?? byHeadings(bytes, file.name);
  if (/[\0\x81\x8d\x8f\x90\x9d]/.test(text)) throw new CsvError(null, notText(file.name));
  return text;
}

/** Decode Windows-1252. Throws CsvError, with the encoding's name, if the headings are of another one. */
function byHeadings(bytes, name) {
  if (bytes.includes(0)) throw new CsvError(null, notText(name));
  const western = decoded(bytes, "windows-1252");
  if (beginsWithCandles(western)) return western;
  const other = OTHER_ENCODINGS.find((encoding) => {
    const text = decoded(bytes, encoding);
    return text !== null && beginsWithCandles(text);
  });
  if (other !== undefined) {
    throw new CsvError(null, `${name} is not UTF-8 but ${other}. Save it as UTF-8.`);
  }
  throw new CsvError(null, `${name} is not UTF-8, and as Windows-1252 it has no known headings. Save it ` +
    "as UTF-8 with a first row as date,open,high,low,close,volume.");
}

function decoded(bytes, encoding) {
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

function beginsWithCandles(text) {
  try {
    const lines = linesOf(text);
    return lines.length > 0 && findHeader(lines, null) !== null;
  } catch (error) {
    return error instanceof CsvError && /could each be meant/.test(error.message);
  }
}

function notText(name) {
  return `${name} is not text. From a spreadsheet, save it as CSV first.`;
}
