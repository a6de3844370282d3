
// Every text of a case is written as text, never as HTML.
const root = document.documentElement;
const themes = { "": "as the system", light: "light", dark: "dark" };

function remembered() {
  try { return localStorage.getItem("theme") ?? ""; } catch { return ""; }
}

function show(theme) {
  if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
  const dark = theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.classList.toggle("dark", dark);
  document.getElementById("theme").textContent = `Theme: ${themes[theme]}`;
}

let theme = remembered() in themes ? remembered() : "";
show(theme);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(theme));
document.getElementById("theme").addEventListener("click", () => {
  const names = Object.keys(themes);
  theme = names[(names.indexOf(theme) + 1) % names.length];
  try { localStorage.setItem("theme", theme); } catch { /* a page from a disk may have no store */ }
  show(theme);
});
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details")) one.open = true;
});

function digits(value) {
  if (value === 0) return "0";
  if (Math.abs(value) >= 999.5) {
    return Number(value.toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 0 });
  }
  return value.toPrecision(3);
}

function scaled(value, units) {
  const found = units.find(([, size]) => Number((value / size).toPrecision(3)) < 1000);
  const [unit, size] = found ?? units.at(-1);
  return `${digits(value / size)} ${unit}`;
}

const TIMES = [["ns", 1e-9], ["µs", 1e-6], ["ms", 1e-3], ["s", 1]];
const BYTES = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].map((unit, place) => [unit, 1024 ** (place + 1)]);
const WRITE = {
  count: (value) => value.toLocaleString("en"),
  time: (value) => scaled(value, TIMES),
  bytes: (value) => (value < 1024 ? `${value} B` : scaled(value, BYTES)),
  ratio: (value) => `${digits(value)}×`,
  percent: (value) => `${digits(100 * value)} %`,
  error: (value) => (value === 0 ? "0" : value.toExponential(1)),
  text: (value) => value,
};

function escaped(text) {
  const marks = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
  return text.replace(/[&<>"']/g, (mark) => marks[mark]);
}

async function unpacked(id) {
  const packed = document.getElementById(id).textContent.trim();
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

async function library() {
  const text = await unpacked("library");
  const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  try { return (await import(address)).default; } finally { URL.revokeObjectURL(address); }
}

function column(head, place) {
  const { name, kind } = head.dataset;
  const written = (value) => (value === null ? "–" : WRITE[kind](value));
  return {
    name,
    type: kind === "text" ? "string" : "num",
    className: kind === "text" ? "text" : "number",
    data: (row, type) => {
      const value = row[place];
      if (type === "sort" || type === "type") return value ?? (kind === "text" ? "" : -Infinity);
      return escaped(written(value)); // to filter as well: there DataTables makes HTML of it
    },
  };
}

async function fill() {
  const [DataTable, text] = await Promise.all([library(), unpacked("case-data")]);
  const packed = JSON.parse(text);
  const heads = [...document.querySelectorAll("#cases th")];
  const columns = heads.map((head) => {
    const held = packed[head.dataset.name];
    return head.dataset.kind === "text" ? held.places.map((place) => held.texts[place]) : held;
  });
  const rows = columns[0].map((_, row) => columns.map((values) => values[row]));
  const table = new DataTable("#cases", {
    data: rows,
    columns: heads.map(column),
    order: [],
    pageLength: 25,
    deferRender: true,
    autoWidth: false,
    layout: { topStart: "search", topEnd: "pageLength", bottomStart: "info", bottomEnd: "paging" },
    language: { search: "Search", lengthMenu: "_MENU_ cases a page", info: "_START_ to _END_ of _TOTAL_ cases",
      infoFiltered: "(of _MAX_)", infoEmpty: "no case", zeroRecords: "No case fits; show all, or choose another." },
  });
  const form = document.getElementById("filters");
  for (const select of form.querySelectorAll("select")) {
    const name = select.dataset.column;
    for (const value of [...packed[name].texts].sort()) select.append(new Option(value, value));
    select.addEventListener("change", () => {
      const chosen = select.value;
      table.column(`${name}:name`).search(chosen ? (value) => value === chosen : "").draw();
    });
  }
  form.addEventListener("reset", () => {
    for (const select of form.querySelectorAll("select")) table.column(`${select.dataset.column}:name`).search("");
    table.search("").order([]).draw();
  });
  form.hidden = false;
  document.getElementById("waiting").remove();
}

fill();
