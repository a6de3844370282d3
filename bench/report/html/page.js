// The theme, the choices of the page, and the table of all results, whose rows are in the page.
const root = document.documentElement;
const themes = { "": "as the system", light: "light", dark: "dark" };

function remembered() {
  try { return localStorage.getItem("theme") ?? ""; } catch { return ""; }
}

function show(theme) {
  if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.classList.toggle("dark", dark);
  byId("theme").textContent = `Theme: ${themes[theme]}`;
}

let theme = remembered() in themes ? remembered() : "";
show(theme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(theme));
byId("theme").addEventListener("click", () => {
  const names = Object.keys(themes);
  theme = names[(names.indexOf(theme) + 1) % names.length];
  try { localStorage.setItem("theme", theme); } catch { /* a page from a disk may have no store */ }
  show(theme);
});

// What is chosen: by the form, or by a link that ends in such choices.
const form = byId("conditions");
const KEPT = [...CHOSEN, "cache"];

/** What can be chosen under a name, after what is chosen before it. */
function possible(name) {
  const rows = CASES.filter((row) => fits(row, CHOSEN.slice(0, KEPT.indexOf(name))));
  if (name === "cache") return rows.some((row) => known(row.cold_s)) ? ["hot", "cold"] : ["hot"];
  return [...name === "run" ? [""] : [], ...unique(rows.map((row) => String(row[name])))];
}

/** Leave no choice that has no case; what another choice rules out cannot be chosen. */
function settle() {
  for (const name of KEPT) {
    const values = possible(name);
    if (!values.includes(state[name])) {
      state[name] = values.includes("float64") ? "float64" : values[0];
    }
    for (const one of form.querySelectorAll(`select[name=${name}] option`)) {
      one.disabled = !values.includes(one.value);
      one.selected = one.value === state[name];
    }
    for (const one of form.querySelectorAll(`input[name=${name}]`)) {
      one.disabled = !values.includes(one.value);
      one.checked = one.value === state[name];
      one.parentElement.title = one.disabled ? "not measured" : "";
    }
  }
}

/** Draw everything that depends on the choices, and show of the rest what they are about. */
function draw() {
  hush();
  settle();
  const rows = chosen(), said = conditions(rows);
  for (const one of document.querySelectorAll("[data-conditions]")) one.textContent = said;
  for (const one of document.querySelectorAll("main [data-machine]")) {
    one.hidden = CHOSEN.some((name) =>
      name in one.dataset && state[name] && one.dataset[name] !== state[name]);
  }
  for (const one of document.querySelectorAll(".none")) {
    one.hidden = one.parentElement.querySelector("[data-machine]:not([hidden])") !== null;
  }
  drawLegend(rows);
  drawMap(rows);
  drawRanking(rows);
  drawAlong(rows);
  drawRoofline(rows);
  drawMoves();
  drawKernel(rows);
}

function choosing() {
  for (const [name, value] of new FormData(form)) state[name] = value;
  draw();
  const kept = KEPT.filter((name) => state[name]).map((name) => [name, state[name]]);
  location.replace(`#${new URLSearchParams(kept)}`);
  say(`Shown: ${conditions(chosen())}`);
}

if (form && CASES.length) {
  const linked = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of [...new FormData(form), ...linked]) {
    if (KEPT.includes(name)) state[name] = value;
  }
  form.hidden = byId("choose").hidden = byId("quantity").hidden = false;
  draw();
  form.addEventListener("change", choosing);
  byId("quantity").addEventListener("change", (event) => {
    state.quantity = event.target.value;
    drawAlong(chosen());
  });
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) draw();
    width = innerWidth;
  });
}

// The choices again below the bar, wherever the reader is.
const pinned = () => form?.classList.contains("pinned");
function pin(on) {
  form.classList.toggle("pinned", on);
  byId("choose").setAttribute("aria-expanded", String(on));
  if (on) form.querySelector("select").focus();
}
byId("choose").addEventListener("click", () => pin(!pinned()));
addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !pinned()) return;
  pin(false);
  byId("choose").focus();
});
addEventListener("pointerdown", (event) => {
  if (pinned() && !form.contains(event.target) && event.target !== byId("choose")) pin(false);
});

// Where the reader is, in the bar.
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    document.querySelector(`.bar a[href="#${target.id}"]`)
      .setAttribute("aria-current", isIntersecting);
  }
}, { rootMargin: "-25% 0px -75% 0px" });
for (const one of document.querySelectorAll("main > section")) watcher.observe(one);

addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details")) one.open = true;
});

async function library() {
  const packed = byId("library").textContent.trim();
  const packedBytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packedBytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = new Blob([await new Response(stream).text()], { type: "text/javascript" });
  const address = URL.createObjectURL(script);
  try { return (await import(address)).default; } finally { URL.revokeObjectURL(address); }
}

async function start() {
  const heads = [...document.querySelectorAll("#cases thead th")].map((head) => head.textContent);
  const DataTable = await library();
  const table = new DataTable("#cases", {
    order: [],
    pageLength: 25,
    autoWidth: false,
    layout: {
      topStart: "search", topEnd: "pageLength", bottomStart: "info", bottomEnd: "paging",
    },
    language: {
      search: "Search", lengthMenu: "_MENU_ results a page",
      info: "_START_ to _END_ of _TOTAL_ results", infoFiltered: "(of _MAX_)",
      infoEmpty: "no result", zeroRecords: "No result fits; show all, or choose another.",
    },
  });
  const filters = byId("filters");
  for (const select of filters.querySelectorAll("select")) {
    const place = heads.indexOf(select.dataset.column);
    select.addEventListener("change", () => {
      const same = (_, __, row) => table.cell(row, place).node().textContent === select.value;
      table.search.fixed(select.id, select.value ? same : null).draw();
    });
  }
  filters.addEventListener("reset", () => {
    for (const select of filters.querySelectorAll("select")) table.search.fixed(select.id, null);
    table.search("").order([]).draw();
  });
  filters.hidden = false;
}

// It takes a while to make, so that waits until the reader comes near.
new IntersectionObserver(([entry], near) => {
  if (!entry.isIntersecting) return;
  near.disconnect();
  start();
}, { rootMargin: "1500px" }).observe(byId("results"));
