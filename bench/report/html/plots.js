// Time, memory and error along the sizes, and the roofline.
const QUANTITIES = {
  time: {
    text: "time of one call", base: 10, of: seconds, write: (value) => si(value, "s", 1),
    ends: (row) => isCold() ? [null, null] : [row.q1_s, row.q3_s],
  },
  memory: { text: "peak memory beyond the inputs", base: 32, of: (row) => row.peak_bytes,
    write: bytes },
  error: { text: "largest error, relative to its sum's terms", base: 10,
    of: (row) => row.max_rel_error, write: powerOfTen },
};

/** The lines of some cases and the axis of a quantity; `at` is where a case lies. Null if none. */
function linesOf(rows, at, quantity, joined) {
  const pointOf = (row) => {
    const value = row.status === "ok" ? quantity.of(row) : null, y = value > 0 ? value : null;
    const [low, high] = known(y) && quantity.ends ? quantity.ends(row) : [null, null];
    return { x: at(row), y, low, high, failed: row.status !== "ok", tells: () => told(row) };
  };
  const lines = [...groupBy(rows, (row) => row.kernel)].map(([kernel, own]) => ({
    place: placeOf(kernel),
    joined,
    points: own.map(pointOf).filter((point) => known(point.y) || point.failed)
      .sort((a, b) => a.x - b.x),
  }));
  const values = lines.flatMap((line) => line.points.map((point) => point.y)).filter(known);
  if (!values.length) return null;
  const across = range(values, 2);
  return { lines, y: { range: across, ticks: ticks(...across, quantity.base),
    write: quantity.write } };
}

/** The cases along an axis through a size or, where it is alone there, along the longest line. */
function lineThrough(rows, axis, here) {
  const at = (row) => others(row, axis).join();
  const found = groupBy(rows, at);
  const count = (some) => new Set(some.map((row) => row.sizes[axis])).size;
  const longest = [...found.values()].reduce((a, b) => count(b) > count(a) ? b : a);
  return [found.get(at(here)), longest].find((some) => count(some) > 1) ?? [];
}

function drawAlong(rows) {
  const host = byId("along"), here = bySize(rows).get(state.size)[0];
  const quantity = QUANTITIES[state.quantity];
  host.replaceChildren();
  for (const [axis, letter] of axesOf(rows).entries()) {
    const some = lineThrough(rows, axis, here).filter((row) => !hidden.has(row.kernel));
    const drawn = linesOf(some, (row) => row.sizes[axis], quantity, true);
    if (!drawn) continue;
    const held = axesOf(rows).map((name, place) => `${name} = ${number(some[0].sizes[place])}`);
    const fixed = held.filter((_, place) => place !== axis).join(", ");
    const sizes = unique(some.map((row) => row.sizes[axis])).sort((a, b) => a - b);
    const across = range(sizes, sizes.length > 1 ? 1.15 : 2), panel = h("div", { class: "panel" });
    host.append(panel);
    chart(panel, {
      ...drawn,
      title: `${quantity.text} against ${letter}${fixed && `, at ${fixed}`}`,
      x: { range: across, write: whole, title: letter,
        ticks: sizes.length < 9 ? sizes : ticks(...across, 10) },
      references: state.quantity === "time" ? floorOf(some, axis, drawn.y.range[0]) : [],
    });
  }
  if (!host.children.length) host.append(nothing("No two sizes were measured along a line."));
}

/** The roofline bound along an axis, where it is within the chart. */
function floorOf(rows, axis, least) {
  const found = new Map(rows.map((row) => [row.sizes[axis], bound(row)]));
  const points = [...found].filter((pair) => pair[1] > least).sort((a, b) => a[0] - b[0]);
  return points.length > 1 ? [{ points }] : [];
}

function drawRoofline(rows) {
  const host = byId("roofline");
  const shown = rows.filter((row) => row.rate && row.intensity && !hidden.has(row.kernel));
  host.replaceChildren();
  if (!shown.length) {
    return host.append(nothing("No chosen case has a time and a count of operations and bytes."));
  }
  const reached = unique(shown.map(runOf)).flatMap((run) => run.ceilings)
    .filter((one) => one.device === state.device && String(one.threads) === state.threads);
  const peaks = reached.map((one) => one.peaks[state.dtype]).filter(known);
  const x = range(shown.map((row) => row.intensity), 2.5);
  const y = range([...shown.map((row) => row.rate), ...peaks.map((one) => one[0])], 2);
  const pointOf = (row) => ({
    x: row.intensity, y: row.rate, hollow: row.bound === "dispatch", tells: () => told(row),
  });
  const flat = peaks.map(([rate, text], place) =>
    ({ points: x.map((at) => [at, rate]), text: place ? "" : text, rise: 20 }));
  chart(host, {
    title: "operations per second against operations per byte",
    height: 380,
    x: { range: x, ticks: ticks(...x, 10), write: short, title: "operations per byte" },
    y: { range: y, ticks: ticks(...y, 10), write: (value) => si(value, "FLOP/s") },
    references: [...reached.flatMap((one, place) => slopesOf(one, x, y, place === 0)), ...flat],
    lines: [...groupBy(shown, (row) => row.kernel)].map(([kernel, own]) =>
      ({ place: placeOf(kernel), points: own.map(pointOf) })),
  });
  host.append(h("p", { class: "cond" },
    "Hollow: the dispatch of a call sets the bound. Inputs are in cache where they fit."));
}

/** The bandwidths of a run's ceilings as lines within the chart, which end at the peak. */
function slopesOf({ rates, peaks }, [left, right], [low, high], named) {
  const peak = peaks[state.dtype]?.[0] ?? Infinity;
  return rates.map(([rate, text], place) => {
    const start = Math.max(left, low / rate), end = Math.min(right, Math.min(peak, high) / rate);
    return { points: [start, end].map((at) => [at, at * rate]), text: named && !place ? text : "" };
  }).filter(({ points: [start, end] }) => start[0] < end[0]);
}
