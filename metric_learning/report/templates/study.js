"use strict";
// Sorts, filters and unfolds the table. Without this script the page shows all
// its content, but the table stays folded.
const table = document.getElementById("cells");
const body = table.tBodies[0];
const status = document.getElementById("count");

const value = (row, column) => row.cells[column].textContent.trim();

function sortBy(head) {
  const column = head.cellIndex;
  const down = head.getAttribute("aria-sort") === "descending";
  for (const other of head.parentElement.cells)
    other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "ascending" : "descending");
  const sign = down ? 1 : -1;
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [value(a, column), value(b, column)];
    const [m, n] = [parseFloat(x), parseFloat(y)];
    if (isNaN(m) && isNaN(n)) return sign * x.localeCompare(y);
    if (isNaN(m) || isNaN(n)) return isNaN(m) - isNaN(n); // cells without a number last
    return sign * (m - n);
  });
  body.append(...rows);
}

for (const head of table.tHead.rows[0].cells)
  head.querySelector("button").addEventListener("click", () => sortBy(head));

document.getElementById("filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\s+/);
  let shown = 0;
  for (const row of body.rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    shown += !row.hidden;
  }
  status.textContent = `${shown} of ${body.rows.length} lines`;
});

document.getElementById("unfold").addEventListener("click", (event) => {
  const all = table.classList.toggle("all");
  event.target.setAttribute("aria-pressed", all);
});
