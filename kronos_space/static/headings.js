// Names of candle columns in common programs and languages.
//
// The reader of the nightly job knows the same names (tradingbot/markets/column_names.py).
"use strict";

const PRICES = ["open", "high", "low", "close"];
// The preferred name first, as written by `simplified`: lower case, no accents.
const NAMES = {
  time: [
    "timestamp", "timestamps", "datetime", "date time", "date", "datum", "data", "fecha",
    "trade date", "tradedate", "gmt time", "local time", "open time", "opentime", "time", "zeit",
    "start at", "window start", "ts event", "dtyyyymmdd", "yyyymmdd", "unix", "unixtime",
    "ts", "t", "日期", "时间", "時間", "日付", "日時", "날짜", "일자", "дата",
  ],
  clock: ["time", "zeit", "uhrzeit", "heure", "hora", "ora", "tijd"],
  open: [
    "open", "opening", "eroffnung", "eroeffnung", "eroffn", "eroffnungskurs", "erster",
    "ouverture", "ouv", "abertura", "apertura", "otwarcie", "o", "开盘", "开盘价", "始値",
    "開盤", "開盤價", "시가", "открытие", "откр",
  ],
  high: [
    "high", "highest", "hoch", "hochst", "hochstkurs", "tageshoch", "plus haut", "haut", "hoog",
    "maxima", "maximo", "massimo", "max", "najwyzszy", "h", "最高", "最高价", "高値",
    "最高價", "고가", "максимум", "макс",
  ],
  low: [
    "low", "lowest", "tief", "tiefst", "tiefstkurs", "tagestief", "plus bas", "bas", "laag",
    "minima", "minimo", "min", "najnizszy", "l", "最低", "最低价", "安値",
    "最低價", "저가", "минимум", "мин",
  ],
  close: [
    "close", "closing", "schluss", "schlusskurs", "cloture", "clot", "fechamento", "cierre",
    "chiusura", "zamkniecie", "slot", "last", "zuletzt", "dernier", "ultimo", "laatste",
    "latest", "price", "c", "收盘", "收盘价", "終値",
    "收盤", "收盤價", "종가", "закрытие", "цена",
  ],
  volume: [ // shares first: if both are present, a volume is in money
    "stucke", "stuecke", "stuck", "shares", "number of shares", "no of shares",
    "shares traded", "total traded quantity", "quantity", "quantidade", "quantite",
    "volume", "vol", "volumen", "volumes", "volumefrom", "volume from", "wolumen", "v",
    "trading volume", "traded volume", "volume traded", "total volume", "share volume", "qty",
    "volym", "volum", "volumi", "objem", "hacim", "объем", "cantidad", "quantita", "aantal",
    "成交量", "交易量", "成交股数", "成交股數", "出来高", "売買高", "거래량",
  ],
  ticks: ["tickvol", "tick volume", "tickvolume", "ticks"],
  symbol: [
    "symbol", "ticker", "pair", "unique id", "item id", "tic", "ts code", "stock", "name",
  ],
  // whether the bar is complete
  complete: ["complete", "completed", "confirm", "confirmed", "is closed", "is final"],
};
// Values of a "complete" column for a bar that was still running when the file was written.
const RUNNING = ["false", "0", "no", "n"];
// A first column with one of these names is the index of a frame that was saved to a file.
const INDEX = ["", "index", "unnamed", "price", "ticker"];
// Words that change the meaning of the name before them: "open interest".
const OTHER = [
  "adj", "adjusted", "average", "avg", "change", "chg", "date", "int", "interest",
  "ma", "percent", "time", "type", "updated", "weighted", "zone",
];
// Words that change the meaning of the name after them: "adj close", "close time".
const BEFORE = [
  "adj", "adjusted", "avg", "close", "end", "ex", "expiry", "last", "pre", "prev", "previous",
];

/** "<CLOSE>", "4. close", "Close*" -> "close"; "Eröffnung" -> "eroffnung" */
function simplified(heading) {
  const spaced = heading.replace(/(?<=[a-z])(?=[A-Z])/g, " "); // openTime
  const letters = spaced.normalize("NFKD").replace(/\p{M}/gu, "").normalize("NFC").toLowerCase();
  const named = letters.replaceAll("ß", "ss").replaceAll("%", " percent ");
  const text = named.replace(/^\s*\d+[a-z]?\.\s+|\.\d+\s*$/g, "");
  return (text.match(/\p{L}+/gu) ?? []).join(" ");
}

/** Find the columns of candles. Others, such as Yahoo's "Adj Close", are ignored. */
function findColumns(headings) {
  const names = headings.map(simplified);
  const position = {};
  let doubled = "";
  for (const column of Object.keys(NAMES)) {
    let places = placesOf(column, names);
    if (column === "clock") places = places.filter((place) => place !== position.time);
    const single = !["ticks", "symbol", "complete"].includes(column);
    if (places.length > 1 && single && doubled === "") {
      const found = places.map((place) => `${headings[place].slice(0, 30)} (column ${place + 1})`);
      doubled = `${found.join(" and ")} could each be meant; keep the columns of one ticker`;
    }
    if (places.length > 0) position[column] = places[0];
  }
  const first = names[0] || headings[0].trim();
  const isIndex = INDEX.includes(first) && !Object.values(position).includes(0);
  if (!("time" in position) && isIndex) position.time = 0;
  let volumes = []; // "Volume BTC" and "Volume USDT"
  if (!("volume" in position)) {
    volumes = placesWhere(names, (name) => ["volume", "vol"].some((known) => begins(name, known)));
    const prefix = names[position.open]?.split(" ").slice(0, -1).join(" ");
    const place = prefix ? names.indexOf(`${prefix} volume`) : -1;
    if (place >= 0) position.volume = place; // AAPL.Open, AAPL.Volume
  }
  const missing = ["time", ...PRICES].filter((name) => !(name in position));
  return { position, volumes, doubled, missing };
}

function placesOf(column, names) {
  const all = NAMES[column];
  const words = all.filter((known) => known.length > 2 && !known.includes(" "));
  const letters = all.filter((known) => known.length === 1);
  const tries = all.map((known) => (name) => name === known);
  if (column === "time" || PRICES.includes(column)) {
    tries.push(...words.map((known) => (name) => begins(name, known)));
    tries.push(...[...words, ...letters].map((known) => (name) => ends(name, known)));
  }
  for (const isIt of tries) {
    const places = placesWhere(names, isIt);
    if (places.length > 0) return places;
  }
  return [];
}

function placesWhere(names, isIt) {
  return names.flatMap((name, place) => (isIt(name) ? [place] : []));
}

function begins(name, known) {
  const [first, second] = name.split(" ");
  return first === known && second !== undefined && !OTHER.includes(second);
}

function ends(name, known) {
  const words = name.split(" ");
  const last = words.pop();
  const most = known.length === 1 ? 1 : 9; // a short prefix such as bid.o, but not a sentence
  const few = words.length >= 1 && words.length <= most;
  return last === known && few && !words.some((word) => BEFORE.includes(word));
}
