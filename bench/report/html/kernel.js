// What changed from run to run, and one kernel by itself.
function drawMoves() {
  const host = byId("moves"), names = ["machine", "device", "threads"];
  const moved = DATA.history.filter((one) => one.newest && one.change && fits(one, names))
    .sort((a, b) => a.change[0] - b.change[0]);
  if (!moved.length) {
    return host.replaceChildren(nothing("No two chosen runs are of the same grid and settings."));
  }
  const across = range(moved.flatMap((one) => one.change), 1.02);
  const apart = ({ change: [, low, high] }) => low > 1 || high < 1;
  const line = (one) => {
    const [middle, low, high] = one.change, place = placeOf(one.kernel, one.operation);
    const cases = `${one.cases} ${one.cases === 1 ? "case" : "cases"}`;
    return h("li", { class: apart(one) ? "best" : null },
      h("span", { class: "name" }, icon(place), one.kernel),
      interval(place, [low, middle, high], across, apart(one)),
      h("span", {}, one.changed),
      h("span", {}, `${one.operation}, ${one.dtype}, ${one.bound}, ${cases}, `
        + `run ${one.run}`));
  };
  const still = moved.filter((one) => !apart(one));
  const list = (some) => h("ul", { class: "ranking moves" }, some.map(line));
  host.replaceChildren(
    still.length < moved.length ? list(moved.filter(apart)) : nothing("No speed changed."),
    h("details", {}, h("summary", {}, `${still.length} within their interval`), list(still)));
}

const linkTo = (kernel) => h("a", {
  href: "#kernel", click: () => { state.kernel = kernel; drawKernel(chosen()); },
}, kernel);

function drawKernel(rows) {
  const host = byId("one"), kernels = kernelsOf(rows), fastest = ranked(rows);
  if (!kernels.includes(state.kernel)) {
    const ours = fastest.find((row) => row.role === "kernel" && row.kernel !== kernels[0]);
    state.kernel = ours?.kernel ?? kernels[0];
  }
  const own = rows.filter((row) => row.kernel === state.kernel);
  const change = (event) => {
    state.kernel = event.target.value;
    drawKernel(chosen());
    byId("one-kernel").focus();
  };
  const pick = h("select", { id: "one-kernel", change }, kernels.map((kernel) =>
    h("option", { selected: kernel === state.kernel }, kernel)));
  const facts = [...factsOf(own, rows), ...saidOf(own), ...pastOf()]
    .map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]);
  const charts = h("div", { class: "grid thirds" });
  host.replaceChildren(
    h("p", {}, h("label", { for: "one-kernel" }, "Kernel shown "), pick),
    h("dl", { class: "facts" }, facts), charts);
  const work = (row) => row.sizes.reduce((a, b) => a * b), text = axesOf(rows).join(" · ");
  const across = range(own.map(work), 2);
  for (const quantity of Object.values(QUANTITIES)) {
    const drawn = linesOf(own, work, quantity, false);
    if (!drawn) continue;
    const panel = h("div", { class: "panel" });
    charts.append(panel);
    chart(panel, {
      ...drawn,
      title: `${quantity.text} against ${text}`,
      height: 240,
      x: { range: across, ticks: ticks(...across, 10), write: powerOfTen, title: text },
    });
  }
}

/** What was measured of a kernel, as pairs of a name and a text. */
function factsOf(own, rows) {
  const ok = own.filter((row) => row.status === "ok"), timed = ranked(own);
  const sizes = [...bySize(rows).values()];
  const wins = sizes.filter((some) => winners(some).some((row) => row.kernel === state.kernel));
  const most = (name, text) => {
    const found = ok.filter((row) => known(row[name]));
    return found.length && text(found.reduce((a, b) => b[name] > a[name] ? b : a));
  };
  const at = (row) => `${first(ratioText(row))} (${row.size})`;
  const failed = own.find((row) => row.status !== "ok");
  const flagged = ok.filter((row) => row.flagged);
  return [
    ["role", own[0].role],
    ["fastest, ties included", `at ${wins.length} of ${sizes.length} sizes`],
    ["speedup", timed.length && `${at(timed.at(-1))} to ${at(timed[0])}`],
    ["most memory", most("peak_bytes",
      (row) => `${row.peak} (${row.size}), predicted ${row.predicted}`)],
    ["largest error", most("max_rel_error", (row) => `${row.error} (${row.size})`)],
    ["longest first call", most("first_call_s", (row) => row.first_call)],
    ["without a result", failed && `${own.length - ok.length} of ${own.length}: `
      + (failed.remark ?? "no reason was recorded")],
    ["warnings", flagged.length
      && `${flagged.length}, for example ${flagged[0].remark ?? "memory outside torch"}`],
  ].filter(([, text]) => text);
}

/** What its newest run says of the kernel, such as formulas and a docstring; most say nothing. */
function saidOf(own) {
  const said = unique(own.map(runOf)).map((run) => run?.kernels[state.kernel]).filter(known);
  return Object.entries(said.at(-1) ?? {});
}

/** Its speedup in each run of the same grid, by what bounds its cases. */
function pastOf() {
  const names = ["machine", "device", "threads", "operation", "dtype"];
  return DATA.history.filter((one) => one.kernel === state.kernel && fits(one, names))
    .map((one) => [`run ${one.run}`, `${one.ratio} over ${one.cases} cases, ${one.bound}`
      + (one.change ? `; ${one.changed} the run before` : "")]);
}
