
// The rows of the table are in the page; this makes them sort and filter.
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

async function library() {
  const packed = document.getElementById("library").textContent.trim();
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const address = URL.createObjectURL(new Blob([await new Response(stream).text()], { type: "text/javascript" }));
  try { return (await import(address)).default; } finally { URL.revokeObjectURL(address); }
}

async function start() {
  const heads = [...document.querySelectorAll("#cases thead th")].map((head) => head.textContent);
  const DataTable = await library();
  const table = new DataTable("#cases", {
    order: [],
    pageLength: 25,
    autoWidth: false,
    layout: { topStart: "search", topEnd: "pageLength", bottomStart: "info", bottomEnd: "paging" },
    language: { search: "Search", lengthMenu: "_MENU_ results a page", info: "_START_ to _END_ of _TOTAL_ results",
      infoFiltered: "(of _MAX_)", infoEmpty: "no result", zeroRecords: "No result fits; show all, or choose another." },
  });
  const form = document.getElementById("filters");
  for (const select of form.querySelectorAll("select")) {
    const place = heads.indexOf(select.dataset.column);
    select.addEventListener("change", () => {
      const fits = (_, __, row) => table.cell(row, place).node().textContent === select.value;
      table.search.fixed(select.id, select.value ? fits : null).draw();
    });
  }
  form.addEventListener("reset", () => {
    for (const select of form.querySelectorAll("select")) table.search.fixed(select.id, null);
    table.search("").order([]).draw();
  });
  form.hidden = false;
}

start();
