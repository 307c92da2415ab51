
"use strict";

// Tables: a header's button sorts by its column; again turns it around. What has no value stays last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headers = [...table.tHead.rows[0].cells];
  headers.forEach((header, column) => {
    const button = header.querySelector("button");
    if (button) button.addEventListener("click", () => sortBy(table, headers, column, button));
  });
}

function sortBy(table, headers, column, button) {
  const numeric = button.dataset.sort === "number";
  const before = headers[column].getAttribute("aria-sort");
  // Numbers are first shown from the highest, names from A.
  const first = numeric ? "descending" : "ascending";
  const second = numeric ? "ascending" : "descending";
  const order = before === first ? second : first;
  const sign = order === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const valued = [...body.rows].map((row) => [row, row.cells[column].dataset.value ?? ""]);
  valued.sort(([, a], [, b]) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (numeric ? Number(a) - Number(b) : a.localeCompare(b));
  });
  body.append(...valued.map(([row]) => row));
  headers.forEach((header) => header.removeAttribute("aria-sort"));
  headers[column].setAttribute("aria-sort", order);
  say(`Sorted by ${button.textContent}, ${order}.`);
}

function say(text) {
  document.getElementById("status").textContent = text;
}

// The heat map: one stop for the Tab key, arrows from cell to cell.
const matrix = document.getElementById("matrix");
if (matrix) {
  const cells = [...matrix.querySelectorAll("button.cell")];
  const at = (cell) => [cell.closest("tr").rowIndex, cell.closest("td").cellIndex];
  const stepTo = (cell) => {
    cells.forEach((each) => { each.tabIndex = each === cell ? 0 : -1; });
  };
  if (cells.length) stepTo(cells[0]);
  matrix.addEventListener("focusin", (event) => {
    if (cells.includes(event.target)) stepTo(event.target);
  });
  matrix.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step || !cells.includes(event.target)) return;
    event.preventDefault();
    let [row, column] = at(event.target);
    for (;;) {
      row += step[0];
      column += step[1];
      const next = matrix.rows[row]?.cells[column];
      if (!next) return;
      const button = next.querySelector("button.cell");
      if (button) return button.focus();
    }
  });
}

// A pair of classes opens its images. The browser's own dialog keeps the focus, closes with Escape and gives it back.
const dialog = document.getElementById("dialog");
if (dialog) {
  const { names, sheet, pairs } = JSON.parse(document.getElementById("document").textContent);
  const picture = document.getElementById("sheet");
  const part = (id) => document.getElementById(`dialog-${id}`);

  const element = (tag, text, className) => {
    const made = document.createElement(tag);
    if (text) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const percent = (fraction) => `${(100 * fraction).toFixed(1)}%`;

  const draw = (place, label) => {
    const canvas = element("canvas");
    const { columns, width, height } = sheet;
    canvas.width = width;
    canvas.height = height;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
    const [left, top] = [(place % columns) * width, Math.floor(place / columns) * height];
    canvas.getContext("2d").drawImage(picture, left, top, width, height, 0, 0, width, height);
    return canvas;
  };

  const tile = ([place, id, probability, truth], name, taken) => {
    const item = element("li", "", "tile");
    item.dataset.id = id;
    if (place !== null) item.append(draw(place, `Image ${id}: ${name} taken for ${taken}`));
    const text = element("p");
    text.append(element("span", percent(probability), "sure"));
    if (truth !== null) text.append(element("span", `${name} ${percent(truth)}`, "quiet"));
    text.append(element("span", `id ${id}`, "quiet"));
    item.append(text);
    return item;
  };

  const open = async (key) => {
    const [name, taken] = key.split("-").map((index) => names[index]);
    const { count, rows } = pairs[key];
    if (picture) await picture.decode();
    part("title").textContent = `${name} taken for ${taken}`;
    const shown = rows.length === count ? `${count}` : `Showing ${rows.length} of ${count}`;
    part("note").textContent = `${shown}${rows.length === count ? (count === 1 ? " image" : " images") : ""}, the surest first.`;
    part("rows").replaceChildren(...rows.map((row) => tile(row, name, taken)));
    dialog.showModal();
    dialog.scrollTop = 0;
  };

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-pair]");
    if (button) open(button.dataset.pair);
    if (event.target === dialog) dialog.close();
  });
  part("close").addEventListener("click", () => dialog.close());
}

// Colours: as the system says, light, or dark; remembered where the browser lets a file remember.
const theme = document.getElementById("theme");
const themes = ["auto", "light", "dark"];
const remembered = () => {
  try {
    return localStorage.getItem("theme");
  } catch {
    return null;
  }
};
function useTheme(name) {
  if (name === "auto") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.dataset.theme = name;
  document.getElementById("theme-name").textContent = name[0].toUpperCase() + name.slice(1);
  try {
    localStorage.setItem("theme", name);
  } catch { /* then it holds for this visit */ }
}
let current = themes.includes(remembered()) ? remembered() : "auto";
useTheme(current);
theme.hidden = false;
theme.addEventListener("click", () => {
  current = themes[(themes.indexOf(current) + 1) % themes.length];
  useTheme(current);
});
