// Tables of class "sortable": a button in every column's heading sorts the rows by it, then the other way round. It
// begins with the smallest, or with the largest where the heading says data-first="descending".
const number = (text) => {
  const plain = text.replace(/[,%\s]/g, "").replace("−", "-");
  return plain !== "" && !isNaN(plain) ? Number(plain) : null;
};

function sortTable(table, heading, column) {
  const first = heading.dataset.first ?? "ascending";
  const second = first === "ascending" ? "descending" : "ascending";
  const way = heading.getAttribute("aria-sort") === first ? second : first;
  const descending = way === "descending";
  const key = (row) => row.cells[column]?.dataset.sort ?? row.cells[column]?.textContent.trim() ?? "";
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    const [m, n] = [number(x), number(y)];
    if (m !== null && n !== null) return m - n;
    return x.localeCompare(y, "en", { numeric: true });
  };
  const rows = [...table.tBodies[0].rows].sort((a, b) => (descending ? compare(b, a) : compare(a, b)));
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", way);
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  const headings = table.tHead?.rows[table.tHead.rows.length - 1]?.cells ?? [];
  [...headings].forEach((heading, column) => {
    if (!heading.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sortTable(table, heading, column));
  });
}
