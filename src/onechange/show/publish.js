// One seed a row, drawn by chance and ranked, as a table is published; then what all seeds say.
(() => {
  const panel = document.currentScript.previousElementSibling;
  if (!panel || panel.dataset.ready) return;
  panel.dataset.ready = "yes";
  const rows = JSON.parse(panel.querySelector("script").textContent);
  const [go, all, said, list] = ["go", "all", "said", "table"].map((name) => panel.querySelector(`.oc-${name}`));
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const ends = rows.flatMap(({ each, low, high }) => [...each, low, high]);
  const errors = (value) => Math.log(100.5 - value); // half as many errors is a step, wherever it is taken
  const [left, right] = [errors(Math.min(...ends)), errors(Math.max(...ends))];
  const x = (value) => (100 * (left - errors(value))) / (left - right);
  const first = new Set(); // rows that came first in some table
  const places = []; // of the baseline
  let tables = 0;

  const SVG = "http://www.w3.org/2000/svg";
  const shape = (tag, name, values) => {
    const made = document.createElementNS(SVG, tag);
    made.setAttribute("class", name);
    for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
    return made;
  };
  const dot = (name, value) => shape("ellipse", name, { cx: `${x(value)}%`, cy: "50%", rx: 4, ry: 4 });

  for (const row of rows) {
    const line = document.createElement("li");
    if (row.row === "1") line.className = "oc-base";
    line.innerHTML = '<span class="oc-rank"></span><span class="oc-name"></span><svg role="img"></svg><span class="oc-score"></span>';
    line.querySelector(".oc-name").textContent = `${row.row} ${row.name}`;
    Object.assign(row, { line, drawn: null, before: [] });
    list.append(line);
  }

  function draw(row) {
    const chart = row.line.querySelector("svg");
    chart.replaceChildren();
    const of = all.checked ? `${row.mean.toFixed(1)}%, interval ${row.low.toFixed(1)} to ${row.high.toFixed(1)}` : `${row.drawn}%`;
    chart.setAttribute("aria-label", of);
    if (all.checked) {
      for (const value of row.each) chart.append(dot("oc-ghost", value));
      chart.append(shape("line", "oc-bar", { x1: `${x(row.low)}%`, x2: `${x(row.high)}%`, y1: "50%", y2: "50%" }));
      chart.append(dot("oc-dot", row.mean));
    } else {
      for (const value of row.before) chart.append(dot("oc-ghost", value));
      if (row.drawn !== null) chart.append(dot("oc-dot", row.drawn));
    }
  }

  function ranked() {
    const score = (row) => (all.checked ? row.mean : row.drawn);
    const order = [...rows].sort((a, b) => score(b) - score(a));
    const was = new Map(rows.map(({ line }) => [line, line.getBoundingClientRect().top]));
    const place = (row) => 1 + order.filter((other) => score(other) > score(row)).length;
    for (const row of order) {
      row.line.querySelector(".oc-rank").textContent = place(row);
      row.line.querySelector(".oc-score").textContent = score(row).toFixed(1);
      draw(row);
      list.append(row.line);
    }
    if (!calm)
      for (const { line } of order) {
        const moved = was.get(line) - line.getBoundingClientRect().top;
        if (moved) line.animate([{ transform: `translateY(${moved}px)` }, { transform: "none" }], { duration: 350, easing: "ease-out" });
      }
    return { order, place };
  }

  function table() {
    all.checked = false;
    tables += 1;
    for (const row of rows) {
      if (row.drawn !== null) row.before.push(row.drawn);
      row.drawn = row.each[Math.floor(Math.random() * row.each.length)];
    }
    const { order, place } = ranked();
    const best = order.filter((row) => place(row) === 1);
    for (const row of best) first.add(row.row);
    places.push(place(rows.find(({ row }) => row === "1")));
    const names = best.map(({ row, name }) => `${row}, ${name}`).join(", and ");
    const text = [`Table ${tables}: first is row ${names}, with ${best[0].drawn.toFixed(1)}%.`];
    if (tables > 1) {
      const [least, most] = [Math.min(...places), Math.max(...places)];
      text.push(`In ${tables} tables ${first.size === 1 ? "one row" : `${first.size} rows`} came first, and the baseline ${least === most ? `number ${least}` : `anything from ${least} to ${most}`}.`);
    }
    said.textContent = text.join(" ");
    go.textContent = "Publish another";
  }

  go.onclick = table;
  all.onchange = () => {
    if (!all.checked) return rows[0].drawn === null ? table() : ranked();
    const { order } = ranked();
    const top = order[0];
    const near = order.filter((row) => row !== top && row.high > top.low).length;
    said.textContent = `All seeds: every dot is one, the bar a 95% interval. Row ${top.row} has the best mean, and the intervals of ${near} others reach into its own.`;
  };
  table();
})();
