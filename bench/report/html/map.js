// Which kernel at which size: the legend, the map, and all kernels at the chosen size.
function drawLegend(rows) {
  const flip = (event) => {
    const button = event.currentTarget, place = [...button.parentElement.children].indexOf(button);
    if (!hidden.delete(button.textContent)) hidden.add(button.textContent);
    draw();
    byId("legend").children[place].focus();
  };
  byId("legend").replaceChildren(...kernelsOf(rows).map((kernel) => h("button", {
    type: "button", "aria-pressed": String(!hidden.has(kernel)), click: flip,
  }, icon(placeOf(kernel)), kernel)));
}

/** The size that most others share all numbers but one with: there is most to see along its lines. */
function busiest(rows, sizes) {
  const near = (row) => rows.filter((other) =>
    row.sizes.filter((size, axis) => size !== other.sizes[axis]).length < 2).length;
  const count = new Map([...sizes].map(([size, [row]]) => [size, near(row)]));
  return [...count.keys()].reduce((best, size) => count.get(size) > count.get(best) ? size : best);
}

function drawMap(rows) {
  const sizes = bySize(rows), numeric = (a, b) => a - b, letters = axesOf(rows);
  if (!sizes.has(state.size)) state.size = busiest(rows, sizes);
  const columns = unique(rows.map((row) => row.sizes[0])).sort(numeric);
  const work = (row) => others(row).reduce((a, b) => a * b, 1);
  const lines = [...groupBy(rows, (row) => others(row).join()).values()]
    .sort(([a], [b]) => work(a) - work(b) || a.sizes[1] - b.sizes[1]);
  const head = columns.map((size) =>
    h("th", { scope: "col", "aria-label": number(size) }, whole(size)));
  const line = (alike) => h("tr", {}, h("th", { scope: "row" }, alike[0].shape),
    columns.map((column) => {
      const some = alike.filter((row) => row.sizes[0] === column);
      return h("td", {}, some.length ? cellOf(some[0].size, some)
        : h("span", { class: "gap" }, "·"));
    }));
  const table = h("table", { class: "map", keydown: walk },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, DATA.shapes[rows[0].axes]), head)),
    h("tbody", {}, lines.map(line)));
  const region = { class: "scroll", role: "region", tabindex: 0 };
  byId("map").replaceChildren(
    h("p", { class: "cond" }, `The fastest kernel at each size, ${letters[0]} from left to right: `
      + "how many times as fast as the baseline, and its time. Two marks: they cannot be told "
      + "apart. Choose a cell to see all kernels."),
    h("div", { ...region, "aria-label": "Map of the fastest kernels" }, table));
}

function cellOf(size, rows) {
  const [best, ...ties] = winners(rows), chosenNow = size === state.size;
  const given = {
    type: "button", class: "cell", "data-size": size, tabindex: chosenNow ? 0 : -1,
    "aria-pressed": String(chosenNow), click: () => choose(size), pointerleave: hush,
  };
  if (!best) {
    return h("button", { ...given, "aria-label": `${size}: no kernel can be ranked` }, "–");
  }
  const all = [best, ...ties].map((row) => row.kernel);
  const ratio = first(ratioText(best)), time = first(timeText(best));
  const strength = Math.min(36, 8 + 6 * Math.log2(Math.max(1, speed(best))));
  const point = (event) => {
    if (event.pointerType === "mouse") tell(told(best), event.clientX, event.clientY);
  };
  return h("button", {
    ...given, "data-kernels": all.join("|"), pointerenter: point,
    "aria-label": `${size}: ${all.join(" ≈ ")}, ${ratio} as fast as the baseline, ${time}`,
    style: `--c:${colour(placeOf(best.kernel))};--t:${strength.toFixed(0)}%`,
  }, h("b", {}, all.slice(0, 2).map((kernel) => icon(placeOf(kernel))), ratio),
  h("small", {}, time));
}

/** Go from cell to cell by an arrow key, over the gaps. */
function walk(event) {
  const steps = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
  const step = steps[event.key], from = event.target.closest("td");
  if (!step || !from) return;
  event.preventDefault();
  const lines = [...event.currentTarget.tBodies[0].rows];
  let line = lines.indexOf(from.parentElement), column = from.cellIndex, next = null;
  do {
    line += step[0];
    column += step[1];
    next = lines[line]?.cells[column];
  } while (next?.matches("td") && !next.querySelector("button"));
  const button = next?.querySelector("button");
  if (button) choose(button.dataset.size);
}

function choose(size) {
  state.size = size;
  const rows = chosen();
  for (const cell of byId("map").querySelectorAll("button")) {
    const now = cell.dataset.size === size;
    cell.setAttribute("aria-pressed", String(now));
    cell.tabIndex = now ? 0 : -1;
    if (now) cell.focus();
  }
  drawRanking(rows);
  drawAlong(rows);
}

function drawRanking(rows) {
  const here = bySize(rows).get(state.size) ?? [], measured = ranked(here), best = winners(here);
  const around = (row) => [ends(row)[0] ?? speed(row), speed(row), ends(row)[1] ?? speed(row)];
  const across = range([1, ...measured.flatMap(around)], 1.05);
  const warning = (row) => h("abbr", { title: row.remark ?? "memory outside torch" }, " †");
  const line = (row) => h("li", { class: best.includes(row) ? "best" : null },
    h("span", { class: "name" },
      icon(placeOf(row.kernel)), linkTo(row.kernel), row.flagged && warning(row)),
    interval(placeOf(row.kernel), around(row), across),
    h("span", {}, first(timeText(row))), h("span", {}, ratioText(row)));
  const failed = here.filter((row) => row.status !== "ok").map((row) => h("li", {},
    h("b", {}, row.kernel), ` ${row.status}: ${row.remark ?? "no reason was recorded"}`));
  const set = here.find((row) => row.bound);
  const by = set ? `; ${set.bound} sets the roofline bound` : "";
  byId("ranking").replaceChildren(
    h("h3", {}, state.size),
    h("p", { class: "cond" }, `Speedup over the baseline with its 95 % interval${by}.`),
    measured.length ? h("ol", { class: "ranking" }, measured.map(line))
      : nothing("No kernel has a time here."),
    failed.length ? h("ul", { class: "failed" }, failed) : "",
    h("p", { class: "cond" }, conditions(here)));
}
