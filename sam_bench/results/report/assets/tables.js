// Tables: sorting by a column, filtering by text.
function cellValue(cell) {
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  const text = cell.textContent.trim();
  return text === "" || isNaN(text) ? text : Number(text);
}

// Numbers before words, so that "n/a" and "too few seeds" come last in either direction.
function compare(a, b, sign) {
  const numbers = (typeof a === "number") - (typeof b === "number");
  if (numbers) return -numbers;
  return sign * (typeof a === "number" ? a - b : String(a).localeCompare(String(b)));
}

// Put a button into each header cell; onSort(column, sign) does the work.
function makeSortable(table, onSort) {
  for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      onSort(column, up ? 1 : -1);
    });
  }
}

function sortRows(table, column, sign) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map(row => [cellValue(row.cells[column]), row]);
  rows.sort((a, b) => compare(a[0], b[0], sign));
  body.append(...rows.map(pair => pair[1]));
}

// Every word must occur somewhere in the text.
function matches(text, query) {
  const folded = text.toLowerCase();
  return query.toLowerCase().split(/\s+/).every(word => folded.includes(word));
}

// Says of each table that is wider than its place that it scrolls, until its last column is in sight.
function startScrollHints() {
  for (const box of document.querySelectorAll(".scroll")) {
    const look = () => {
      box.classList.toggle("wide", box.scrollWidth > box.clientWidth + 1);
      box.classList.toggle("end", box.scrollLeft + box.clientWidth >= box.scrollWidth - 1);
    };
    box.addEventListener("scroll", look, { passive: true });
    const watcher = new ResizeObserver(look);
    for (const node of [box, box.firstElementChild]) watcher.observe(node);
    look();
  }
}

function startResultTables() {
  const tables = [...document.querySelectorAll("#results table")];
  for (const table of tables) makeSortable(table, (column, sign) => sortRows(table, column, sign));
  const input = document.getElementById("filter-results");
  const count = document.getElementById("filter-results-count");
  input.addEventListener("input", () => {
    let shown = 0, all = 0;
    for (const table of tables) {
      let here = 0;
      for (const row of table.tBodies[0].rows) {
        row.hidden = !matches(table.caption.textContent + " " + row.textContent, input.value);
        here += !row.hidden;
        all += 1;
      }
      shown += here;
      table.parentElement.hidden = here === 0;
      const notes = table.parentElement.nextElementSibling;
      if (notes && notes.classList.contains("notes")) notes.hidden = here === 0;
    }
    count.textContent = input.value.trim() ? `${shown} of ${all} rows` : "";
  });
}
