// Candles out of CSV text, as people have it: exports of brokers, of Yahoo, of a spreadsheet.
//
// Forgiving about how dates and numbers are written, strict about what they say: what is unclear is
// refused with its row. Rows are counted as in an editor: the first line of the text is row 1.
"use strict";

const PRICES = ["open", "high", "low", "close"];
// What columns are called, best first, in small letters.
const NAMES = {
  date: ["timestamp", "datetime", "date", "datum", "time", "unix"],
  open: ["open", "erster", "eröffnung"],
  high: ["high", "hoch"],
  low: ["low", "tief"],
  close: ["close", "last", "price", "schluss", "schlusskurs"],
  volume: ["volume", "vol", "volumen", "stücke", "stuecke"],
};
const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const ISO = /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)?)?$/;
const CLOCK = /^[T, ]*(\d{1,2}):(\d\d)(:\d\d)?(?:\.\d+)?\s*([AP]M)?\s*(Z|[+-]\d\d:?\d\d)?$/i;
// How dates are written, and the order of their parts; "?" is told by all of them together.
const SHAPES = [
  [/^(\d{4})[-/.](\d\d?)[-/.](\d\d?)(.*)$/, "ymd"],
  [/^(\d{4})(\d\d)(\d\d)()$/, "ymd"],
  [/^(\d\d?)\.(\d\d?)\.(\d{4})(.*)$/, "dmy"],
  [/^(\d\d?)[-/](\d\d?)[-/](\d{4})(.*)$/, "?"],
  [/^([a-z]{3})[a-z]*\.? (\d\d?),? (\d{4})(.*)$/i, "mdy"],
  [/^(\d\d?)[- ]([a-z]{3})[a-z]*\.?[- ](\d{4})(.*)$/i, "dmy"],
];
const EPOCH = /^\d{10}(\d{3})?$/; // seconds, or milliseconds
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const MULTIPLES = { "": 1, K: 1e3, M: 1e6, B: 1e9 };

class CsvError extends Error {
  constructor(row, message) {
    super(row === null ? message : `Row ${row}: ${message}.`);
    this.row = row;
  }
}

/** CSV text -> {bars, rows, notes}: bars oldest first, rows[i] the row that bar i stands in. */
function readCandles(text, most = Infinity) {
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
  const notes = [];
  const records = body.map(({ line, row }) => ({ cells: splitLine(line, delimiter), line, row }));
  const full = records.filter((record) => !isBlank(record, columns));
  const left = records.length - full.length;
  if (left > 0) notes.push(`${left} ${left === 1 ? "row" : "rows"} without prices left out`);
  if (full.length === 0) throw new CsvError(null, "There are no candles below the header.");

  const times = readTimes(full, columns, notes);
  const mark = decimalMark(full, columns, delimiter);
  let bars = full.map((record, index) => readBar(record, columns, times[index], mark));
  let rows = full.map(({ row }) => row);
  if (bars[0].timestamp > bars.at(-1).timestamp) {
    bars.reverse();
    rows.reverse();
    notes.push("newest first, so turned round");
  }
  if (bars.length > most) {
    notes.push(`only the newest ${most} of ${bars.length} are sent`);
    bars = bars.slice(-most);
    rows = rows.slice(-most);
  }
  if (bars.every((bar) => bar.volume === null)) bars.forEach((bar) => delete bar.volume);
  const gap = bars.findIndex((bar) => bar.volume === null);
  if (gap >= 0) throw new CsvError(rows[gap], "volume is empty; give it in every row, or in none");
  return { bars, rows, notes };
}

/** Header cells -> the position of each column. Others, such as Yahoo's "Adj Close", are ignored. */
function findColumns(cells, row) {
  // of "Close/Last", "<CLOSE>" and "Close Close price adjusted for splits." the first word counts
  const words = cells.map((cell) => cell.toLowerCase().match(/\p{Letter}+/gu) ?? [""]);
  const find = (names) => {
    for (const name of names) {
      const alone = words.findIndex((all) => all.length === 1 && all[0] === name);
      const first = alone >= 0 ? alone : words.findIndex((all) => all[0] === name);
      if (first >= 0) return first;
    }
    return -1;
  };
  const columns = {};
  for (const [column, names] of Object.entries(NAMES)) {
    const position = find(names);
    if (position >= 0) columns[column] = position;
  }
  const clock = words.findIndex((all) => all[0] === "time");
  if (clock >= 0 && clock !== columns.date) columns.clock = clock;
  const missing = ["date", ...PRICES].filter((name) => !(name in columns));
  if (missing.length > 0) {
    throw new CsvError(row, `no column ${missing.join(", ")}; the first row names the columns, ` +
      "such as date,open,high,low,close,volume");
  }
  return columns;
}

function splitLine(line, delimiter) {
  if (!line.includes('"')) return line.split(delimiter).map((cell) => cell.trim());
  const cells = [""];
  let inQuotes = false;
  for (const letter of line) {
    if (letter === '"') inQuotes = !inQuotes;
    else if (letter === delimiter && !inQuotes) cells.push("");
    else cells[cells.length - 1] += letter;
  }
  return cells.map((cell) => cell.trim());
}

/** Days without trading as some vendors list them, and Yahoo's lines on dividends and splits. */
function isBlank({ cells, line }, columns) {
  if (/\b(dividend|stock splits?)\b/i.test(line)) return true;
  return PRICES.every((name) => /^(null|nan|n\/a|-*)$/i.test(cells[columns[name]] ?? ""));
}

/** The records' times as ISO 8601. All are written like the first one. */
function readTimes(records, columns, notes) {
  const texts = records.map(({ cells }) => {
    const date = cells[columns.date] ?? "";
    const clock = "clock" in columns ? (cells[columns.clock] ?? "") : "";
    return `${date} ${clock}`.trim();
  });
  const refuse = (index) => {
    const like = index === 0 ? "2026-11-20, 20.11.2026 or 2026-11-20 15:30" : `${texts[0]}, the first`;
    throw new CsvError(records[index].row, `date ${quoted(texts[index])} is not like ${like}`);
  };
  if (ISO.test(texts[0])) {
    return texts.map((text, index) => (ISO.test(text) ? text : refuse(index)));
  }
  if (EPOCH.test(texts[0])) {
    const moment = (text) => new Date(Number(text.padEnd(13, "0"))).toISOString().slice(0, 19) + "Z";
    return texts.map((text, index) => (EPOCH.test(text) ? moment(text) : refuse(index)));
  }
  const [shape, order] = SHAPES.find(([pattern]) => pattern.test(texts[0])) ?? refuse(0);
  const parts = texts.map((text, index) => shape.exec(text) ?? refuse(index));
  const sure = order === "?" ? dayOrMonthFirst(parts, texts, records, notes) : order;
  return parts.map((part, index) => {
    const [year, month, day] = [..."ymd"].map((letter) => part[1 + sure.indexOf(letter)]);
    const number = /\d/.test(month) ? month : String(MONTHS.indexOf(month.toLowerCase()) + 1);
    const clock = isoClock(part[4]);
    if (clock === null || number === "0") return refuse(index);
    return `${year}-${number.padStart(2, "0")}-${day.padStart(2, "0")}${clock}`;
  });
}

/** 05/01/2026 is in May or in January; a 13 or more in any row tells which. */
function dayOrMonthFirst(parts, texts, records, notes) {
  const largest = (position) => Math.max(...parts.map((part) => Number(part[position])));
  if (largest(1) > 12 === largest(2) > 12) {
    throw new CsvError(
      records[0].row,
      `date ${quoted(texts[0])} may begin with the day or the month; write 2026-11-20`,
    );
  }
  const order = largest(1) > 12 ? "dmy" : "mdy";
  notes.push(`dates read as ${order === "dmy" ? "day/month/year" : "month/day/year"}`);
  return order;
}

/** " 4:05 PM" -> "T16:05", "" -> "", what is no time of day -> null */
function isoClock(text) {
  if (text.trim() === "") return "";
  const found = CLOCK.exec(text);
  if (found === null) return null;
  const [, hour, minute, second = "", half = "", zone = ""] = found;
  const hours = half === "" ? Number(hour) : (Number(hour) % 12) + (half.toUpperCase() === "PM" ? 12 : 0);
  return `T${String(hours).padStart(2, "0")}:${minute}${second}${zone.toUpperCase()}`;
}

/** "." or ",", as the prices of all rows tell together. */
function decimalMark(records, columns, delimiter) {
  const cells = records.flatMap((record) => PRICES.map((name) => record.cells[columns[name]] ?? ""));
  const both = cells.find((cell) => cell.includes(".") && cell.includes(","));
  if (both !== undefined) return both.lastIndexOf(".") > both.lastIndexOf(",") ? "." : ",";
  const commas = cells.filter((cell) => cell.includes(","));
  if (commas.length === 0) return ".";
  // who separates by semicolons mostly does so because the comma is the decimal mark
  if (delimiter === ";" && !cells.some((cell) => cell.includes("."))) return ",";
  return commas.every((cell) => /^\D*\d{1,3}(,\d{3})+$/.test(cell)) ? "." : ",";
}

function readBar({ cells, row }, columns, timestamp, mark) {
  const bar = { timestamp };
  for (const name of PRICES) bar[name] = readNumber(cells[columns[name]] ?? "", name, row, mark);
  const volume = "volume" in columns ? (cells[columns.volume] ?? "") : "";
  bar.volume = /^(null|nan|n\/a|-*)$/i.test(volume) ? null : readNumber(volume, "volume", row, mark);
  return bar;
}

/** "1,234.50", "1.234,50", "1'234.50", "$12.30" and "54.2M" are numbers, too. */
function readNumber(cell, name, row, mark) {
  if (cell === "") throw new CsvError(row, `${name} is empty`);
  const other = mark === "." ? "," : ".";
  const [, digits, multiple] = /^(.*?)([KMB]?)$/i.exec(cell.replace(/[\s'’$€£]/g, ""));
  const [whole, ...fraction] = digits.split(mark);
  const grouped = new RegExp(`^[+-]?\\d{1,3}(\\${other}\\d{3})*$`).test(whole);
  const plain = [grouped ? whole.replaceAll(other, "") : whole, ...fraction].join(".");
  const value = Number(plain) * MULTIPLES[multiple.toUpperCase()];
  if (!NUMBER.test(plain) || !Number.isFinite(value)) {
    throw new CsvError(row, `${name} ${quoted(cell)} is not a number like 1234${mark}56`);
  }
  return value;
}

function quoted(text) {
  return `“${text.length > 40 ? text.slice(0, 40) + "…" : text}”`;
}

/** A file's text. Spreadsheets write UTF-16 as well. Throws CsvError for what is no text. */
async function textOf(file, largest) {
  if (file.size > largest) {
    throw new CsvError(null, `${file.name} is larger than ${largest / 1e6} MB; its newest rows will do.`);
  }
  const bytes = new Uint8Array(await file.arrayBuffer());
  const wide = { "255,254": "utf-16le", "254,255": "utf-16be" }[bytes.slice(0, 2).join()];
  const text = new TextDecoder(wide ?? "utf-8").decode(bytes);
  if (text.includes("\0")) {
    throw new CsvError(null, `${file.name} is no text. From a spreadsheet, save it as CSV first.`);
  }
  return text;
}
