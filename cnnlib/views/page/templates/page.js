
"use strict";

// Tables: the button of a header sorts by its column; a second click reverses the order. Rows without a value stay last.
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
  // Numbers start with the highest, names with A.
  const first = numeric ? "descending" : "ascending";
  const second = numeric ? "ascending" : "descending";
  const order = before === first ? second : first;
  const sign = order === "ascending" ? 1 : -1;
  const body = table.tBodies[0];
  const valued = [...body.rows].map((row) => [row, valueOf(row.cells[column], numeric)]);
  valued.sort(([, a], [, b]) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (numeric ? Number(a) - Number(b) : a.localeCompare(b));
  });
  body.append(...valued.map(([row]) => row));
  headers.forEach((header) => header.removeAttribute("aria-sort"));
  headers[column].setAttribute("aria-sort", order);
  announce(`Sorted by ${button.textContent}, ${order}.`);
}

// The value of a cell: as the page states it, or else its text, in which a dash means that there is none.
function valueOf(cell, numeric) {
  const text = cell.textContent === "–" ? "" : cell.textContent;
  return cell.dataset.value ?? (numeric ? text.replace(/[,%]/g, "") : text);
}

// With many classes: a field that keeps the rows whose class contains its text.
const search = document.getElementById("class-search");
if (search) {
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLocaleLowerCase();
    const rows = [...document.getElementById("class-table").tBodies[0].rows];
    rows.forEach((row) => { row.hidden = !row.cells[0].textContent.toLocaleLowerCase().includes(wanted); });
    announce(`${rows.filter((row) => !row.hidden).length} classes shown.`);
  });
}

function announce(text) {
  document.getElementById("status").textContent = text;
}

// Confusion matrix: it is one stop for the Tab key; arrow keys move from cell to cell.
const matrix = document.getElementById("matrix");
if (matrix) {
  const cells = [...matrix.querySelectorAll("button.cell")];
  const at = (cell) => [cell.closest("tr").rowIndex, cell.closest("td").cellIndex];
  const makeStop = (cell) => {
    cells.forEach((each) => { each.tabIndex = each === cell ? 0 : -1; });
  };
  if (cells.length) makeStop(cells[0]);
  matrix.addEventListener("focusin", (event) => {
    if (cells.includes(event.target)) makeStop(event.target);
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

// A pair of classes opens its images. The browser's dialog traps the focus, closes with Escape and restores the focus.
const dialog = document.getElementById("dialog");
if (dialog) {
  const { names, sheet, pairs } = JSON.parse(document.getElementById("mistakes-json").textContent);
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
    const { columns, width, height, photo } = sheet;
    const canvas = element("canvas", "", photo ? "photo" : "");
    canvas.width = width;
    canvas.height = height;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
    const [left, top] = [(place % columns) * width, Math.floor(place / columns) * height];
    canvas.getContext("2d").drawImage(picture, left, top, width, height, 0, 0, width, height);
    return canvas;
  };

  const tile = ([place, id, probability, trueProbability], trueName, predictedName) => {
    const item = element("li", "", "tile");
    item.dataset.id = id;
    if (place !== null) item.append(draw(place, `Image ${id}: ${trueName} predicted as ${predictedName}`));
    const text = element("p");
    if (probability !== null) text.append(element("span", percent(probability), "confidence"));
    if (trueProbability !== null) text.append(element("span", `${trueName} ${percent(trueProbability)}`, "quiet"));
    text.append(element("span", `id ${id}`, "quiet"));
    item.append(text);
    return item;
  };

  const open = async (key) => {
    const [trueName, predictedName] = key.split("-").map((index) => names[index]);
    const { count, rows } = pairs[key];
    if (picture) await picture.decode();
    part("title").textContent = `${trueName} predicted as ${predictedName}`;
    const shown = rows.length === count ? `${count}` : `Showing ${rows.length} of ${count}`;
    part("note").textContent = `${shown}${rows.length === count ? (count === 1 ? " image" : " images") : ""}, most confident first.`;
    part("rows").replaceChildren(...rows.map((row) => tile(row, trueName, predictedName)));
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

// Colour theme: the system's, light, or dark; stored if the browser allows a file to store it.
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
  } catch { /* then the choice lasts for this visit */ }
}
let current = themes.includes(remembered()) ? remembered() : "auto";
useTheme(current);
theme.hidden = false;
theme.addEventListener("click", () => {
  current = themes[(themes.indexOf(current) + 1) % themes.length];
  useTheme(current);
});
