// Parse times and numbers in common formats. Ambiguous values are refused.
"use strict";

// English, German, French, Spanish, Portuguese, Italian, Dutch, Polish; without accents
const MONTHS = [
  "jan ene gen sty", "feb fev lut", "mar mrz mrt", "apr abr avr kwi", "may mai mag mei maj",
  "jun juin giu cze", "jul juil lug lip", "aug ago aou sie", "sep set wrz",
  "oct okt out ott paz", "nov lis", "dec dez dic gru",
].map((names) => names.split(" "));
const ISO =
  /^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?\s?(Z|[+-]\d\d(:?\d\d)?)?)?$/;
const BY_PROGRAM = /^.{10}T|^.{10} .*(Z|[+-]\d\d(:?\d\d)?)$/;
const COMPACT = new RegExp( // 20260102, 202601021530, 20260102153000
  "^(?<y>(?:19|20)\\d\\d)(?<m>0[1-9]|1[0-2])(?<d>0[1-9]|[12]\\d|3[01])" +
    "(?<rest>(?:(?:[01]\\d|2[0-3])[0-5]\\d(?:[0-5]\\d)?)?)$",
);
const EPOCH = /^(\d{9,19})(?:\.0*)?$/; // seconds, milli-, micro- or nanoseconds
// Formats of dates. All rows together decide whether a or b is the month.
const SHAPES = [
  "(?<y>\\d{4})(?<s>[-/.])(?<m>\\d\\d?)\\k<s>(?<d>\\d\\d?)",
  "(?<y>\\d{4})(?<m>\\d\\d)(?<d>\\d\\d)",
  "(?<d>\\d\\d?)\\.\\s?(?<m>\\d\\d?)\\.\\s?(?<y>\\d{4}|\\d\\d)",
  "(?<a>\\d\\d?)(?<s>[-/])(?<b>\\d\\d?)\\k<s>(?<y>\\d{4}|\\d\\d)",
  "(?:\\p{L}+,? )?(?<m>\\p{L}{3,})\\.? (?<d>\\d\\d?),? (?<y>\\d{4})",
  "(?:\\p{L}+,? )?(?<d>\\d\\d?)\\.?(?<s>[-/\\s])(?<m>\\p{L}{3,})\\.?\\k<s>(?<y>\\d{4}|\\d\\d)",
].map((shape) => new RegExp(`^${shape}(?:[T,\\s]\\s*(?<rest>.*))?$`, "u"));
const CLOCK = new RegExp(
  "^(?<h>\\d\\d?):(?<min>\\d\\d)(?::(?<s>\\d\\d)(?:[.,]\\d+)?)?\\s*(?<half>[AP]M)?\\s*" +
    "(?<zone>Z|(?:GMT|UTC)?(?:[+-]\\d\\d(?::?\\d\\d)?)?)$",
  "i",
);
const DIGIT_CLOCK = /^(?<h>[01]\d|2[0-3])(?<min>[0-5]\d)(?<s>[0-5]\d)?$/; // 170000
const HOUR = /^(?<h>\d\d?)[-\s]?(?<half>[AP]M)$/i; // 09-AM

const MISSING = /^(null|nan|na|n\/a|#n\/a|none|[-–—]*)$/i;
const NUMERIC = /^[-+−.,$€£¥₹\s'’]*\d[-+−.,$€£¥₹\s'’\deE]*$/; // may be a number
const AROUND = /^'|(?:\b[A-Z]{1,3})?[$€£¥₹₩₽฿₿]|(?<=\d)\s*[KMBT]\s*$/gi;
const MULTIPLES = { K: 1e3, M: 1e6, B: 1e9, T: 1e12 };

/** A problem of a cell; the caller adds its row. */
class CellError extends Error {
  /** position: that of the cell among the texts. */
  constructor(message, position) {
    super(message);
    this.position = position;
  }
}

function isTime(text) {
  return [ISO, COMPACT, EPOCH, ...SHAPES].some((shape) => shape.test(text));
}

function isClock(text) {
  return CLOCK.test(text) || DIGIT_CLOCK.test(text);
}

/** Add missing leading zeros to a time of day in digits: 930, 90000. */
function paddedClock(text) {
  return /^\d{1,5}$/.test(text) ? text.padStart(text.length < 5 ? 4 : 6, "0") : text;
}

/**
 * Return the times of all rows as ISO 8601, null for a time in another format than the first.
 * Throws CellError if day and month are ambiguous.
 */
function readTimes(texts) {
  const [first] = texts;
  if (ISO.test(first)) {
    const isZoned = (text) => /[Z+]|-.*-.*-/.test(text);
    const zoned = isZoned(first);
    const fits = (text) => ISO.test(text) && isZoned(text) === zoned && isDay(text);
    const times = texts.map((text) => (fits(text) ? text.replace(",", ".").replace(/(\.\d{6})\d+/, "$1") : null));
    return { times, byProgram: BY_PROGRAM.test(first), notes: [] };
  }
  if (texts.every((text) => COMPACT.test(text))) {
    return { times: texts.map((text) => spelled(text, COMPACT)), byProgram: false, notes: [] };
  }
  if (EPOCH.test(first)) return { times: texts.map(ofEpoch), byProgram: true, notes: [] };
  const shape = SHAPES.find((each) => each.test(first));
  if (shape === undefined) return { times: texts.map(() => null), byProgram: false, notes: [] };
  const open = shape.exec(first).groups.a !== undefined;
  const dayFirst = open && isDayFirst(texts, shape);
  const order = dayFirst ? "day/month/year" : "month/day/year";
  const times = texts.map((text) => spelled(text, shape, dayFirst));
  return { times, byProgram: false, notes: open ? [`dates read as ${order}`] : [] };
}

/** Convert epochs: 10 digits are seconds, 13 milli-, 16 micro-, 19 nanoseconds, even mixed. */
function ofEpoch(text) {
  const digits = EPOCH.exec(text)?.[1];
  if (digits === undefined) return null;
  const [, power] = [[10, 3], [13, 0], [16, -3], [19, -6]].find(([most]) => digits.length <= most);
  const moment = new Date(power > 0 ? digits * 10 ** power : Math.floor(digits / 10 ** -power));
  return `${moment.toISOString().slice(0, 19)}Z`;
}

function spelled(text, shape, dayFirst = false) {
  const parts = shape.exec(text)?.groups;
  const clock = parts && spelledClock(parts.rest ?? "");
  if (clock == null) return null;
  const [day, month] = parts.a === undefined
    ? [parts.d, parts.m]
    : dayFirst ? [parts.a, parts.b] : [parts.b, parts.a];
  const date = isoDate(parts.y, monthOf(month), day);
  return isDay(date) ? date + clock : null;
}

/** "4:05 PM" -> "T16:05", "" -> "", other texts -> null */
function spelledClock(written) {
  const text = paddedClock(written.trim());
  if (text === "") return "";
  const parts = (CLOCK.exec(text) ?? DIGIT_CLOCK.exec(text) ?? HOUR.exec(text))?.groups;
  if (parts === undefined) return null;
  const half = parts.half?.toUpperCase();
  const hour = half === undefined ? parts.h : String((parts.h % 12) + (half === "PM" ? 12 : 0));
  const offset = (parts.zone ?? "").replace(/GMT|UTC|Z/i, "");
  const zone = parts.zone && offset === "" ? "Z" : offset;
  const second = parts.s === undefined ? "" : `:${parts.s}`;
  return `T${hour.padStart(2, "0")}:${parts.min ?? "00"}${second}${zone}`;
}

function monthOf(text) {
  if (/^\d+$/.test(text)) return text;
  const plain = simplified(text);
  const found = [4, 3].map((length) =>
    MONTHS.findIndex((names) => names.includes(plain.slice(0, length))));
  return String((found.find((index) => index >= 0) ?? -1) + 1);
}

function isoDate(year, month, day) {
  const century = year >= 70 ? "19" : "20"; // two digits are 1970 to 2069
  const full = year.length === 4 ? year : century + year;
  return `${full}-${month.padStart(2, "0")}-${day.padStart(2, "0")}`;
}

/** Return whether an ISO date exists: 2026-02-30 does not. */
function isDay(text) {
  const date = text.slice(0, 10);
  const moment = new Date(`${date}T00:00Z`);
  return !Number.isNaN(moment.valueOf()) && moment.toISOString().startsWith(date);
}

/** Return whether 05/01/2026 is in January, from a day above 12 or the order of the rows. */
function isDayFirst(texts, shape) {
  const parts = texts.map((text) => shape.exec(text)?.groups).filter(Boolean);
  const readings = [true, false].map((dayFirst) => ({
    dayFirst,
    days: parts.map(({ a, b, y }) => (dayFirst ? isoDate(y, b, a) : isoDate(y, a, b))),
  }));
  const possible = readings.filter(({ days }) => days.every(isDay));
  if (possible.length === 0) return Math.max(...parts.map(({ a }) => a)) > 12;
  const isOrdered = ({ days }) => {
    const later = days.slice(1);
    return later.every((day, i) => day >= days[i]) || later.every((day, i) => day <= days[i]);
  };
  const ordered = possible.filter(isOrdered);
  const left = ordered.length === 1 ? ordered : possible;
  const [one, other] = [left[0].days, left.at(-1).days];
  const differing = one.findIndex((day, i) => day !== other[i]);
  if (differing < 0) return left[0].dayFirst;
  const form = { day: "numeric", month: "long", timeZone: "UTC" };
  const inWords = (day) => new Date(day).toLocaleDateString("en-GB", form);
  throw new CellError(
    `is ambiguous: it may be ${inWords(one[differing])} or ` +
      `${inWords(other[differing])}; ` +
      `write ${one[differing]} or ${other[differing]}`,
    texts.map((text, i) => i).filter((i) => shape.test(texts[i]))[differing],
  );
}

/**
 * Return the decimal mark of the first unambiguous number: one with both marks, with one mark twice, or
 * with a mark not followed by three digits. `doubtful`: the place of the first ambiguous one.
 */
function settledMark(texts) {
  let doubtful = null;
  for (const [index, text] of texts.entries()) {
    if (!/[.,]/.test(text)) continue;
    const bare = bareNumber(text);
    const marks = NUMERIC.test(bare) ? (bare.match(/[.,]/g) ?? []) : [];
    if (marks.length === 0) continue;
    if (new Set(marks).size === 2) return { mark: marks.at(-1), doubtful: null };
    if (marks.length > 1) return { mark: otherMark(marks[0]), doubtful: null };
    if (!/^[-+]?[1-9]\d{0,2}[.,]\d{3}$/.test(bare)) return { mark: marks[0], doubtful: null };
    doubtful ??= index;
  }
  return { mark: null, doubtful };
}

/** Return the two readings of a number such as 1.234. */
function twoReadings(text) {
  const bare = bareNumber(text);
  const [decimal, whole] = [bare.replace(/[.,]/, "."), bare.replace(/[.,]/, "")];
  return `is ${decimal} or ${whole}, and no number shows which; write ${decimal}0 or ${whole}`;
}

/** Parse "1,234.50", "1.234,50", "1'234.50", "$12.30" or "54.2M". NaN for other texts. */
function toNumber(text, mark) {
  const bare = bareNumber(text);
  if (!PATTERNS[mark].test(bare) || !/\d/.test(bare)) return NaN;
  const digits = bare.replaceAll(otherMark(mark), "").replace(/[\s'’]/g, "").replace(mark, ".");
  return Number(digits) * (MULTIPLES[text.trim().slice(-1).toUpperCase()] ?? 1);
}

// thousands, or in India hundreds above thousands
const grouped = (mark) => `[1-9]\\d{0,2}(?:${mark}\\d{2,3})*${mark}\\d{3}`;
const pattern = (mark, other) => new RegExp(
  `^[-+]?(?:\\d+|${grouped(other)}|${grouped("[\\s'’]")})?(?:${mark}\\d*)?(?:e[-+]?\\d+)?$`, "i");
const PATTERNS = { ".": pattern("\\.", ","), ",": pattern(",", "\\.") };

/** Remove currency, multiple and surrounding spaces. */
function bareNumber(text) {
  return text.replace(AROUND, "").trim().replace("−", "-");
}

function otherMark(mark) {
  return mark === "." ? "," : ".";
}
