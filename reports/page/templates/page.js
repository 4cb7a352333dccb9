"use strict";
// A column sorts by the first number of its cells, or by their text; what is missing comes last.
const NUMBER = /^[+-]?\d+(\.\d+)?(e[+-]?\d+)?/;
const key = cell => {
  const text = cell.textContent.trim();
  const plain = text.replace(/[\s\u202f\u2009](?=\d{3})/g, "").replace(/\u2212/g, "-");
  const found = plain.match(NUMBER);
  const missing = text === "\u2013" || text === "frozen";
  return { missing, number: found ? parseFloat(found[0]) : NaN, text };
};
const sort = th => {
  const body = th.closest("table").tBodies[0], sign = th.ariaSort === "descending" ? 1 : -1;
  for (const other of th.parentElement.children) other.removeAttribute("aria-sort");
  th.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
  const rows = [...body.rows].map(row => ({ row, ...key(row.cells[th.cellIndex]) }));
  const numeric = rows.every(r => r.missing || !isNaN(r.number));
  const order = (a, b) => numeric ? a.number - b.number : a.text.localeCompare(b.text);
  rows.sort((a, b) => a.missing - b.missing || sign * order(a, b) || 0);
  body.append(...rows.map(r => r.row));
};
for (const button of document.querySelectorAll("th > button")) {
  button.addEventListener("click", () => sort(button.parentElement));
}
// A link to what is folded away opens it.
const unfold = () => {
  const at = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (at && at.tagName === "DETAILS") at.open = true;
};
addEventListener("hashchange", unfold);
unfold();
// A method that is not chosen is hidden in figures and tables. Where a figure has many, only some
// are shown until the reader asks.
const choices = [...document.querySelectorAll(".methods input")];
const places = box => [...document.querySelectorAll(`[data-method="${CSS.escape(box.value)}"]`)];
const choose = (box, on) => {
  box.checked = on;
  box.indeterminate = false;
  for (const place of places(box)) {
    place.classList.toggle("on", on);
    place.classList.toggle("off", !on);
  }
};
for (const box of choices) {
  const drawn = places(box).filter(place => place.closest("svg"));
  const resting = drawn.map(place => place.classList.contains("rest"));
  box.checked = !resting.includes(true);
  box.indeterminate = !box.checked && resting.includes(false);
  box.addEventListener("change", () => choose(box, box.checked));
}
for (const button of document.querySelectorAll(".methods button")) {
  button.addEventListener("click", () => choices.forEach(box => choose(box, !!button.value)));
}
if (matchMedia("(max-width: 60rem)").matches) {
  for (const list of document.querySelectorAll(".methods")) list.open = false;
}
