// The cases, and which of them are chosen.
const DATA = JSON.parse(byId("data").textContent);
const COLUMNS = Object.entries(DATA.cases);
const CASES = DATA.cases.run.map((_, place) =>
  Object.fromEntries(COLUMNS.map(([name, values]) => [name, values[place]])));
const CHOSEN = ["machine", "run", "device", "threads", "operation", "dtype"];
const state = { cache: "hot", quantity: "time", size: "", kernel: "" }; // and the choices
const hidden = new Set(); // kernels that take no part

/** What the axes of some cases of one operation are called. */
const axesOf = (rows) => DATA.axes[rows[0].axes];
/** The sizes along all axes but the first, or but another. */
const others = (row, axis = 0) => row.sizes.filter((_, place) => place !== axis);

/** Whether a row is of what is chosen under some names; without a run it may be of any. */
const fits = (row, names) => names.every((name) =>
  (name === "run" && !state.run) || String(row[name]) === state[name]);
/** The cases of the chosen run, or those of the run with the most kernels at each size.
    Of runs whose operation has other axes, those of the last. */
function chosen() {
  const rows = CASES.filter((row) => fits(row, CHOSEN) && (state.run || row.leads));
  return rows.filter((row) => row.axes === rows.at(-1).axes);
}
const placeOf = (kernel, operation = state.operation) => DATA.looks[operation]?.[kernel] ?? 0;
const runOf = (row) =>
  DATA.runs.find((one) => one.run === row.run && one.machine === row.machine);

// A number and its text, with inputs in cache or from memory.
const isCold = () => state.cache === "cold";
const speed = (row) => isCold() ? row.speedup_cold : row.speedup;
const ends = (row) => isCold() ? [row.cold_low, row.cold_high] : [row.low, row.high];
const seconds = (row) => isCold() ? row.cold_s : row.median_s;
const bound = (row) => isCold() ? row.roofline_cold_s : row.roofline_s;
const timeText = (row) => isCold() ? row.time_cold : row.time;
const ratioText = (row) => isCold() ? row.ratio_cold : row.ratio;
const first = (text) => text.split(" (")[0];

const unique = (values) => [...new Set(values)];
const kernelsOf = (rows) =>
  unique(rows.map((row) => row.kernel)).sort((a, b) => placeOf(a) - placeOf(b));
/** The rows by a key of each, in the order in which the keys come. */
function groupBy(rows, key) {
  const found = new Map();
  for (const row of rows) {
    if (!found.has(key(row))) found.set(key(row), []);
    found.get(key(row)).push(row);
  }
  return found;
}
const bySize = (rows) => groupBy(rows, (row) => row.size);

/** Measured cases that take part, the fastest first. */
const ranked = (rows) => rows
  .filter((row) => row.status === "ok" && known(speed(row)) && !hidden.has(row.kernel))
  .sort((a, b) => speed(b) - speed(a));
/** The fastest of one size and those whose interval reaches into its own; none has a warning. */
function winners(rows) {
  const [best, ...others] = ranked(rows).filter((row) => row.wins);
  return best ? [best, ...others.filter((row) => ends(row)[1] >= ends(best)[0])] : [];
}

const threadsText = (count) => `${count} ${Number(count) === 1 ? "thread" : "threads"}`;
const commitOf = (row) => runOf(row)?.commit ?? "unknown";
const cacheText = () => isCold() ? "from memory (cold)" : "in cache where they fit (hot)";
/** The conditions of some of the chosen cases. */
function conditions(rows) {
  const runs = unique(rows.map((row) => `${row.run} (commit ${commitOf(row)})`));
  return [
    state.machine, state.operation, state.dtype, state.device, threadsText(state.threads),
    `inputs ${cacheText()}; ${runs.length > 1 ? "runs" : "run"} ${runs.join(", ")}`,
  ].join(", ");
}
/** All that is known of a case, with its conditions, as pairs of a name and a text. */
function told(row) {
  const by = row.bound ? `, set by ${row.bound}` : "";
  const cold = [["time, cold", row.time_cold], ["speedup, cold", row.ratio_cold]];
  const measured = [
    ["time, hot", row.time], ["speedup, hot", row.ratio], ...known(row.cold_s) ? cold : [],
    ["roofline efficiency", `${row.efficient}${by}`],
    ["peak memory", `${row.peak}, predicted ${row.predicted}`], ["error", row.error],
  ];
  const processes = known(row.processes) ? `, ${row.processes} processes` : "";
  return [
    ["", row.kernel], ["", row.size],
    ...row.status === "ok" ? measured : [["status", row.status]],
    ["note", row.remark],
    ["", `${row.operation}, ${row.dtype}, ${row.device}, ${threadsText(row.threads)}${processes}`],
    ["", `${row.machine}, run ${row.run}, commit ${commitOf(row)}`],
  ].filter(([, text]) => text);
}
