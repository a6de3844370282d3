// Elements, marks, ticks and what is told of a point. Whatever comes from a file is put in as
// text, never as markup, and no number of a case is written here: its text comes with it.
const element = (space) => (tag, given, ...inner) => {
  const made = document.createElementNS(`http://www.w3.org/${space}`, tag);
  for (const [name, value] of Object.entries(given ?? {})) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (known(value) && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...inner.flat(9).filter((one) => known(one) && one !== false && one !== ""));
  return made;
};
const known = (value) => value !== null && value !== undefined;
const h = element("1999/xhtml");
const s = element("2000/svg");
const byId = (id) => document.getElementById(id);
const say = (text) => { byId("said").textContent = text; };
const nothing = (text) => h("p", { class: "empty" }, text);

// The look of a kernel, by its place among those of its operation: the baseline has the first, -1.
const COLOURS = 7;
const CIRCLE = "M-1 0A1 1 0 0 1 1 0A1 1 0 0 1-1 0Z";
const SHAPES = [
  "M-.85-.85H.85V.85H-.85Z",
  "M0-1.15L1.05.8H-1.05Z",
  "M0-1.2L1.05 0 0 1.2-1.05 0Z",
  "M0 1.15L1.05-.8H-1.05Z",
  "M-.4-1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
  "M-1.1 0L-.55-.95H.55L1.1 0 .55.95H-.55Z",
  "M-1.15 0L.8-1.05V1.05Z",
  "M1.15 0L-.8-1.05V1.05Z",
  "M-1-.45L-.45-1 0-.5.45-1 1-.45.5 0 1 .45.45 1 0 .5-.45 1-1 .45-.5 0Z",
];
const colour = (place) => place < 0 ? "var(--text)" : `var(--k${place % COLOURS})`;
const dash = (place) => place < COLOURS ? null : "5 3";
function mark(place, x, y, size = 4.5, hollow = false) {
  const own = colour(place), ground = "var(--panel)";
  const [fill, stroke, width] = hollow ? [ground, own, 1.6] : [own, ground, 0.8];
  return s("path", {
    d: place < 0 ? CIRCLE : SHAPES[place % SHAPES.length],
    transform: `translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(${size})`,
    style: `fill:${fill};stroke:${stroke};stroke-width:${width / size}`,
  });
}
function icon(place) {
  const box = { class: "icon", width: 12, height: 12, viewBox: "-6 -6 12 12" };
  return s("svg", { ...box, "aria-hidden": "true" }, mark(place, 0, 0));
}

// Ticks of axes.
const PREFIXES = [
  [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"],
];
const number = new Intl.NumberFormat("en").format;
const short = (value) => `${Number(value.toPrecision(3))}`;
function si(value, unit, most = 1e12) {
  const fitting = PREFIXES.find(([size]) => size <= most && value >= size * 0.9999);
  const [size, prefix] = fitting ?? PREFIXES.at(-1);
  return `${short(value / size)} ${prefix}${unit}`;
}
function bytes(value) {
  const power = Math.max(0, Math.min(4, Math.floor(Math.log2(value) / 10)));
  return `${short(value / 1024 ** power)} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
}
const whole = (value) => value >= 1e4 ? si(value, "").replace(" ", "") : number(value);
const powerOfTen = (value) => value.toExponential(0);

/** At most six ticks from low to high, at powers of a base, or closer where these are too few. */
function ticks(low, high, base) {
  const all = (by, times) => {
    const found = [], first = Math.floor(Math.log(low) / Math.log(by));
    for (let power = first; by ** power <= high; power++) {
      found.push(...times.map((one) => one * by ** power));
    }
    return found.filter((value) => value >= low && value <= high);
  };
  let found = all(base, [1]);
  if (found.length < 2) found = base === 10 ? all(10, [1, 2, 5]) : all(2, [1]);
  const step = Math.ceil(found.length / 6);
  return found.filter((_, place) => place % step === 0);
}
const scale = (low, high, from, to) => (value) =>
  from + (to - from) * Math.log(value / low) / Math.log(high / low);
function range(values, room = 1.3) {
  const found = values.filter((value) => known(value) && value > 0);
  return [Math.min(...found) / room, Math.max(...found) * room];
}

/** Show pairs of a name and a text beside a point of the window; the first is what it is. */
function tell(pairs, x, y) {
  const tip = byId("tip");
  const line = ([name, text]) => h("div", {}, h("span", {}, name), " ", h("b", {}, text));
  tip.replaceChildren(h("strong", {}, pairs[0][1]), ...pairs.slice(1).map(line));
  tip.hidden = false;
  const fits = x + 16 + tip.offsetWidth <= innerWidth;
  tip.style.left = `${Math.max(4, fits ? x + 16 : x - 16 - tip.offsetWidth)}px`;
  tip.style.top = `${Math.max(4, Math.min(y + 12, innerHeight - tip.offsetHeight - 4))}px`;
}
const hush = () => { byId("tip").hidden = true; };

/** An interval on a log scale, in one line, beside text that says the same. */
function interval(place, [low, middle, high], [least, most], filled = true) {
  const along = scale(least, most, 0, 100);
  const at = (value) => `${Math.min(100, Math.max(0, along(value))).toFixed(1)}%`;
  const where = { low: at(low), middle: at(middle), high: at(high), one: at(1) };
  const style = Object.entries(where).map(([name, value]) => `--${name}:${value}`).join(";");
  return h("span", {
    class: "interval", "aria-hidden": "true", style: `--c:${colour(place)};${style}`,
  }, h("i", { class: "one" }), h("i", { class: "reach" }),
  h("i", { class: filled ? "dot" : "dot hollow" }));
}
