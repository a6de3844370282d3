// A chart on log axes, which answers to pointing and to the arrow keys.

/**
 * Put a chart into a host.
 *
 * An axis has a range, ticks, how to write them, and x a title. A line has the place of a kernel
 * and points of x and y, joined or not; a point without y is drawn at the top, as failed. Each
 * point tells what is known of it. A reference is a dotted line, with a text above its end or none.
 */
function chart(host, { title, height = 270, x, y, lines, references = [] }) {
  const help = `${title}. The arrow keys read its points.`;
  const plot = h("div", { class: "plot", role: "img", tabindex: 0, "aria-label": help });
  host.append(h("figure", {}, h("figcaption", {}, title), plot));
  const width = Math.max(plot.clientWidth, 220);
  const longest = Math.max(0, ...y.ticks.map((value) => y.write(value).length));
  const box = { left: 14 + 7 * longest, right: width - 10, top: 14, bottom: height - 42 };
  const px = scale(...x.range, box.left, box.right), py = scale(...y.range, box.bottom, box.top);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  drawAxes(svg, box, px, py, x, y, height);
  for (const one of references) drawReference(svg, px, py, one);
  const spots = lines.flatMap((line) => drawLine(svg, box, px, py, line));
  plot.append(svg);
  answer(plot, svg, width, spots.sort((a, b) => a.x - b.x || a.y - b.y));
}

function drawAxes(svg, { left, right, top, bottom }, px, py, x, y, height) {
  for (const value of y.ticks) {
    const at = py(value), beside = { x: left - 7, y: at + 4, "text-anchor": "end" };
    svg.append(s("line", { class: "rule", x1: left, x2: right, y1: at, y2: at }));
    svg.append(s("text", beside, y.write(value)));
  }
  let last = -Infinity;
  for (const value of x.ticks) {
    const at = px(value), text = x.write(value);
    svg.append(s("line", { class: "rule", x1: at, x2: at, y1: top, y2: bottom }));
    if (at - last < 7 * text.length + 6) continue;
    svg.append(s("text", { x: at, y: bottom + 17, "text-anchor": "middle" }, text));
    last = at;
  }
  const middle = { x: (left + right) / 2, y: height - 6, "text-anchor": "middle", class: "axis" };
  svg.append(s("text", middle, x.title));
}

const pathOf = (points, px, py) => points.map(
  ([x, y], place) => `${place ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");

function drawReference(svg, px, py, { points, text, rise = 6 }) {
  svg.append(s("path", { class: "reference", d: pathOf(points, px, py) }));
  const [x, y] = points.at(-1);
  const end = { x: px(x) - 4, y: py(y) - rise, "text-anchor": "end", class: "axis" };
  if (text) svg.append(s("text", end, text));
}

/** Draw a line; return where its points are, and what each tells. */
function drawLine(svg, box, px, py, { place, points, joined }) {
  const stroke = { style: `stroke:${colour(place)}` };
  const seen = points.filter((point) => known(point.y));
  if (joined) {
    const d = pathOf(seen.map((point) => [point.x, point.y]), px, py);
    svg.append(s("path", { class: "line", d, ...stroke, "stroke-dasharray": dash(place) }));
  }
  return points.map((point) => {
    const x = px(point.x), y = known(point.y) ? py(point.y) : box.top + 4;
    if (known(point.low) && known(point.high)) {
      const ends = { x1: x, x2: x, y1: py(point.low), y2: py(point.high) };
      svg.append(s("line", { class: "whisker", ...ends, ...stroke }));
    }
    const cross = `M${x - 4} ${y - 4}l8 8m0-8l-8 8`;
    svg.append(known(point.y) ? mark(place, x, y, 4.5, point.hollow)
      : s("path", { class: "failed", d: cross, ...stroke }));
    return { x, y, tells: point.tells };
  });
}

/** Tell of the point nearest to the pointer, or of the next one by an arrow key. */
function answer(plot, svg, width, spots) {
  const ring = s("circle", { class: "ring", r: 9, visibility: "hidden" });
  svg.append(ring);
  let now = -1;
  const placed = () => {
    const seen = svg.getBoundingClientRect(), ratio = seen.width / width;
    return (spot) => [seen.left + spot.x * ratio, seen.top + spot.y * ratio];
  };
  const show = (place) => {
    const spot = spots[now = place], pairs = spot.tells();
    const around = { cx: spot.x, cy: spot.y, visibility: "visible" };
    for (const [name, value] of Object.entries(around)) ring.setAttribute(name, value);
    tell(pairs, ...placed()(spot));
    return pairs;
  };
  const leave = () => { ring.setAttribute("visibility", "hidden"); hush(); };
  const point = (event) => {
    const at = placed();
    const far = spots.map((spot) => {
      const [x, y] = at(spot);
      return Math.hypot(x - event.clientX, y - event.clientY);
    });
    const nearest = far.indexOf(Math.min(...far));
    if (far[nearest] < 30) show(nearest); else leave();
  };
  for (const name of ["pointermove", "pointerdown"]) plot.addEventListener(name, point);
  for (const name of ["pointerleave", "blur"]) plot.addEventListener(name, leave);
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -1e9, End: 1e9 };
  plot.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return leave();
    const step = steps[event.key];
    if (!step || !spots.length) return;
    event.preventDefault();
    const next = Math.max(0, Math.min(spots.length - 1, now + step));
    say(show(next).map((pair) => pair.join(" ")).join(", "));
  });
}
