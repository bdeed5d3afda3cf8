// The page "The table, live": choosing, filtering and drawing what Python computed (EXPLORE, in a script of
// its own). No statistics are computed here. Headings that sort are those of sort.js, the figure is Vega's.

"use strict";

{
  const $ = (id) => document.getElementById(`explore-${id}`);
  const { element, count, save } = PAGE;
  const option = (value, textContent) => element("option", { value, textContent });

  // What can be drawn, by its name in the data. A cost is better small and drawn on a logarithmic axis.
  const QUANTITIES = {
    test: { name: "test accuracy (%)" },
    clean: { name: "test accuracy, clean messages (%)" },
    val: { name: "validation accuracy (%)" },
    train: { name: "training accuracy (%)" },
    published: { name: "published test accuracy, GPT-2 (%)" },
    trained: { name: "trained parameters", cost: true, format: "~s" },
    seconds: { name: "seconds a run", cost: true, format: "~g" },
  };
  const VERDICTS = { 1: "better", "-1": "worse", 2: "these two runs differ", 0: "no difference could be shown" };

  let table; // of EXPLORE.tables, the one that is shown
  let furthest; // of its differences from the baseline
  let change; // the two rows that are chosen: places in table.rows
  let base;

  // -- the rows -----------------------------------------------------------------------------

  function fill() {
    const { rows } = table;
    const homes = [...new Set(rows.map(({ home }) => home))];
    $("home").replaceChildren(option("", "all"), ...homes.map((home) => option(home, home)));
    for (const name of ["change", "base"]) $(name).replaceChildren(...rows.map((row, i) => option(i, row.label)));
    for (const heading of document.querySelectorAll(".explore-rows thead th")) heading.removeAttribute("aria-sort");
    furthest = reach(baseline());
    $("rows").replaceChildren(...rows.map(line));
    $("key").textContent =
      `Test: on ${table.messages} messages, the line is a 95 % interval over seeds and messages, a fine stroke a seed. ` +
      `Clean: on the ${table.clean} of them that are not in the training set. ` +
      "Against row 1: points, with their interval about none; a filled mark is shown after Holm’s correction. " +
      "Trained: parameters. Published: GPT-2's accuracy, one seed, not measured here.";
    const at = (name) => Math.max(0, rows.findIndex(({ row }) => row === name));
    base = at("1");
    change = at("16") !== base ? at("16") : rows.length - 1;
  }

  function line({ row, title, home, why, values, shown, intervals, each }, i) {
    const low = Math.floor(Math.min(...table.rows.map((other) => other.intervals.test.low)) / 5) * 5;
    const place = (value) => `${(100 * (value - low)) / (100 - low)}%`;
    const { test } = intervals;
    const [bar, range, mean] = [element("span", { className: "explore-bar" }), element("i"), element("b")];
    Object.assign(range.style, { left: place(test.low), right: `calc(100% - ${place(test.high)})` });
    mean.style.left = place(values.test);
    const dot = (accuracy) => {
      const made = element("u");
      made.style.left = place(Math.max(low, accuracy));
      return made;
    };
    bar.append(range, ...each.map(dot), mean);

    const button = element("button", { type: "button", textContent: row, tabIndex: i ? -1 : 0 });
    const mark = element("span", { className: "explore-mark" });
    const cell = (name, ...children) => {
      const made = element("td", {}, ...(children.length ? children : [shown[name]]));
      made.dataset.sort = values[name] ?? "-Infinity"; // what is missing comes last where the best comes first
      return made;
    };
    const head = element("th", { scope: "row" }, button, mark);
    head.dataset.sort = i;
    const made = element(
      "tr",
      { onclick: () => choose(i) }, // the button's click arrives here too
      head,
      element("td", { textContent: title, title: why }),
      cell("test", `${shown.test} ${test.shown}`, bar),
      against(i),
      ...["clean", "trained", "seconds", "seeds", "published"].map((name) => cell(name)),
    );
    made.dataset.words = `${row} ${title} ${home} ${why}`.toLowerCase();
    return made;
  }

  const baseline = () => table.rows.findIndex(({ row }) => row === "1");

  // Points at the ends of that line: what the intervals need, 20 at most.
  function reach(first) {
    const ends = table.rows.flatMap((_, k) => (first < 0 || k === first ? [] : [compared(first, k)]));
    const known = ends.filter(({ mean }) => mean !== undefined);
    return Math.min(20, Math.max(...known.flatMap(({ low, high }) => [-low, high]), 1));
  }

  // A row's difference from the baseline: the number, and its interval on a line whose middle is none. The mark is
  // filled where the difference is shown after the correction for all of them.
  function against(i) {
    const first = baseline();
    const c = first < 0 || first === i ? null : compared(first, i);
    if (c === null || typeof c === "string") {
      const made = element("td", { textContent: "–" });
      made.dataset.sort = first === i ? 0 : "-Infinity";
      return made;
    }
    const place = (value) => `${50 + 50 * Math.max(-1, Math.min(1, value / furthest))}%`;
    const [line, range, mean] = [element("span", { className: "explore-gain" }), element("i"), element("b")];
    Object.assign(range.style, { left: place(c.low), right: `calc(100% - ${place(c.high)})` });
    mean.style.left = place(c.mean);
    const sign = signed(c, table.rows[first], table.rows[i]);
    mean.className = sign ? "" : "explore-hollow";
    line.append(range, mean);
    const made = element("td", { title: `[${points(c.low)}, ${points(c.high)}]: ${VERDICTS[sign]}` }, points(c.mean), line);
    made.dataset.sort = c.mean;
    return made;
  }

  // Rows of the table on the page, by their place in table.rows: sorting moves them about.
  const lines = () => [...$("rows").rows].sort((a, b) => a.cells[0].dataset.sort - b.cells[0].dataset.sort);
  const listed = () => {
    const all = lines();
    return table.rows.filter((_, i) => !all[i].hidden);
  };

  function filter() {
    const words = $("find").value.toLowerCase().split(/\s+/);
    lines().forEach((tr, i) => {
      const { home, kind } = table.rows[i];
      const fits = [$("home").value || home, $("kind").value || kind];
      tr.hidden = fits[0] !== home || fits[1] !== kind || !words.every((word) => tr.dataset.words.includes(word));
    });
    $("count").textContent = `${listed().length} of ${count(table.rows.length, "row")}`;
    reachable(lines().find((tr) => !tr.hidden));
    plot();
  }

  // Of the rows' buttons, Tab reaches one; the arrow keys move on from there.
  function reachable(tr) {
    for (const button of $("rows").querySelectorAll("button")) button.tabIndex = -1;
    if (tr) tr.querySelector("button").tabIndex = 0;
  }

  function walk(event) {
    const seen = [...$("rows").rows].filter((tr) => !tr.hidden);
    const at = seen.indexOf(event.target.closest("tr"));
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: seen.length - 1 }[event.key];
    if (event.target.tagName !== "BUTTON" || !seen[to]) return;
    event.preventDefault();
    reachable(seen[to]);
    seen[to].querySelector("button").focus();
  }

  // -- two rows -----------------------------------------------------------------------------

  // The row becomes the change, and what was the change is what it is compared with.
  function choose(i) {
    if (i !== change) [change, base] = [i, change];
    compare();
    plot();
    remember();
  }

  // Python's comparison of two rows, or its words why there is none. Only one of the two directions is stored.
  function compared(a, b) {
    const stored = table.pairs[Math.min(a, b)][Math.abs(b - a) - 1];
    if (typeof stored === "string") return stored;
    const pair = Object.fromEntries(EXPLORE.fields.map((name, k) => [name, stored[k]]));
    return a < b ? pair : { ...pair, mean: -pair.mean, low: -pair.high, high: -pair.low, sign: pair.sign === 2 ? 2 : -pair.sign };
  }

  // What the reader thought of each pair before it was shown.
  const guesses = new Map();
  function tally() {
    const all = [...guesses.values()];
    const right = all.filter(({ said, is }) => said === is).length;
    return `Your guesses: ${right} of ${all.length} right.`;
  }

  const points = (x) => `${x > 0 ? "+" : x < 0 ? "−" : ""}${Math.abs(x).toFixed(1)}`;

  // One verdict a pair: against the baseline it is the corrected one, as the chapters have it.
  const signed = (c, from, to) => (from.row === "1" && table.corrected[to.row] ? table.corrected[to.row][1] : c.sign);
  const verdict = (c, from, to, known) => [
    element("small", { textContent: `${to.label} against ${from.label}` }),
    ` ${points(c.mean)} points [${points(c.low)}, ${points(c.high)}]${known ? `: ${VERDICTS[signed(c, from, to)]}` : ""}`,
  ];

  function compare() {
    const [from, to] = [table.rows[base], table.rows[change]];
    $("change").value = change;
    $("base").value = base;
    lines().forEach((tr, i) => {
      tr.classList.toggle("explore-chosen", i === change || i === base);
      const [sign, words] = i === change ? [" ◆", ", chosen"] : i === base ? [" ◇", ", compared with"] : ["", ""];
      const hidden = element("span", { className: "visually-hidden", textContent: words });
      const seen = element("span", { textContent: sign, ariaHidden: "true" });
      tr.querySelector(".explore-mark").replaceChildren(seen, hidden);
    });
    const c = base === change ? "Choose two different rows." : compared(base, change);
    const told = typeof c === "object";
    $("axis").hidden = !told;
    $("facts").replaceChildren();
    const pair = told ? `${table.name} ${Math.min(base, change)} ${Math.max(base, change)}` : "";
    const guessed = guesses.get(pair);
    $("guess").hidden = !told || guessed !== undefined;
    $("guessed").textContent = guessed === undefined ? "" : tally();
    const known = guessed !== undefined;
    for (const name of ["verdict", "short"]) $(name).replaceChildren(...(told ? verdict(c, from, to, known) : [c]));
    if (!told) return;
    for (const button of $("guess").querySelectorAll("button")) {
      button.onclick = () => {
        guesses.set(pair, { said: Number(button.value), is: signed(c, from, to) ? 1 : 0 });
        compare();
        $("change").focus();
      };
    }
    const both = to.values.published !== null && from.values.published !== null;
    const published = both ? to.values.published - from.values.published : null;
    draw(c, published);

    const test = c.seeds === 1 ? "McNemar’s exact test" : "the larger of Student’s t and a permutation test";
    const needed = c.needed.map((n, k) => {
      const size = EXPLORE.sizes[k];
      return `${size} point${size === 1 ? "" : "s"}: ${n ? `about ${n} seeds` : "more test messages"}`;
    });
    const alike = c.low === 0 && c.high === 0;
    if (known) fact("test", `${c.p}, ${test}`);
    fact("on the same", `${count(c.seeds, "seed")} and ${table.messages} messages`);
    fact("right or wrong together", `${c.together} % of the answers`);
    if (c.seeds > 1 && !alike) fact("to show a difference of", needed.join(", "));
    for (const row of [to, from]) if (row.stuck) fact(`row ${row.row}`, row.stuck);
    if (both) fact("published", `${points(published)} points, GPT-2 with one seed (○ on the line)`);
    if (known && from.row === "1" && table.corrected[to.row]) {
      const [p, sign] = table.corrected[to.row];
      const many = Object.keys(table.corrected).length;
      fact("corrected", `for all ${many} comparisons with the baseline (Holm): ${p}, ${VERDICTS[sign]}`);
      if (sign !== c.sign) fact("by itself", VERDICTS[c.sign]);
    }
    const homes = [...new Set([to.home, from.home])];
    const links = homes.map((home) => element("a", { href: `${home}.html`, textContent: home }));
    fact(links.length === 1 ? "chapter" : "chapters", ...links.flatMap((link, i) => (i ? [", ", link] : [link])));
  }

  function fact(name, ...what) {
    $("facts").append(element("dt", { textContent: name }), element("dd", {}, ...what));
  }

  // The interval on a line whose middle is no difference.
  function draw(c, published) {
    const most = Math.max(Math.abs(c.low), Math.abs(c.high), Math.abs(published));
    const end = [1, 2, 5, 10, 20, 50, 100].find((tick) => tick >= most) ?? Math.ceil(most);
    const place = (value) => `${50 + (50 * value) / end}%`;
    const [line, ends] = $("axis").children;
    const [range, mean, other] = line.children;
    Object.assign(range.style, { left: place(c.low), right: `calc(100% - ${place(c.high)})` });
    mean.style.left = place(c.mean);
    other.hidden = published === null;
    other.style.left = place(published);
    [ends.firstElementChild.textContent, ends.lastElementChild.textContent] = [`−${end}`, `+${end} points`];
  }

  // -- cost against accuracy ----------------------------------------------------------------

  // Rows that no cheaper row beats, from the cheapest on.
  function front(drawn) {
    const best = [];
    for (const point of [...drawn].sort((a, b) => a.x - b.x || b.y - a.y)) {
      if (!best.length || point.y > best.at(-1).y) best.push(point);
    }
    return best;
  }

  // Round numbers on a logarithmic axis: powers of ten, and 2 and 5 times these where there is room.
  function ticks(low, high) {
    const tens = Array.from({ length: 13 }, (_, k) => 10 ** (k - 4));
    const within = (values) => values.filter((value) => value >= low * 0.9 && value <= high * 1.1);
    const fine = within(tens.flatMap((ten) => [ten, 2 * ten, 5 * ten]));
    return fine.length > 7 ? within(tens) : fine;
  }

  let view;

  function plot() {
    const [x, y] = [QUANTITIES[$("x").value], QUANTITIES[$("y").value]];
    const [first, second] = [table.rows[base], table.rows[change]];
    const all = listed().map((row) => ({
      row: row.row,
      x: row.values[$("x").value],
      y: row.values[$("y").value],
      ...row.intervals[$("y").value],
      sign: row === second ? "◆" : row === first ? "◇" : "",
      about: `${row.label}: ${row.shown[$("y").value]} upwards, ${row.shown[$("x").value]} across`,
    }));
    const drawn = all.filter((point) => point.x !== null && point.y !== null);
    const best = x.cost && !y.cost ? front(drawn) : [];
    for (const point of best) point.best = true;
    for (const point of drawn) point.rank = point.sign ? 0 : point.best ? 1 : 2;

    const names = Object.fromEntries(table.rows.map((row) => [row.row, row.label]));
    const chosen = drawn.filter(({ sign }) => sign);
    const said = [`${y.name} of ${count(drawn.length, "row")} against ${x.name}.`];
    if (best.length) said.push(`No cheaper row beats these: ${best.map(({ row }) => names[row]).join("; ")}.`);
    const missing = all.length - drawn.length;
    if (missing) said.push(`${count(missing, "row")} ${missing === 1 ? "has" : "have"} no such number.`);
    $("plot").setAttribute("aria-label", [...said, ...chosen.map(({ about }) => `${about}.`)].join(" "));
    const marked = chosen.map(({ sign, row }) => `${sign} ${names[row]}`).join(", ");
    const bars = chosen[0]?.low === undefined ? "" : ", with a 95 % interval";
    $("legend").textContent = [...(marked ? [`${marked}${bars}.`] : []), ...said.slice(1)].join(" ");

    view?.finalize();
    view = undefined;
    const box = $("plot").firstElementChild;
    box.replaceChildren();
    if (typeof vega === "undefined") return;
    view = new vega.View(vega.parse(spec(drawn, best, x, y, $("plot"))), { renderer: "svg", container: box });
    view.addEventListener("click", (_, item) => {
      const i = table.rows.findIndex(({ row }) => row === item?.datum?.row);
      if (i >= 0) choose(i);
    });
    view.run();
  }

  // The figure in Vega's grammar: data, scales, axes, marks. Colours are the page's own, so they follow its theme.
  function spec(drawn, best, x, y, place) {
    const { fontFamily: font } = getComputedStyle(place);
    const ink = "currentColor";
    const [accent, other, paper] = ["var(--oc-change)", "var(--oc-change-2)", "var(--oc-paper)"];
    const colour = (point) => `${point}.sign ? '${other}' : ${point}.best ? '${accent}' : '${ink}'`;
    const chosen = drawn.filter(({ sign }) => sign);
    const heights = [...drawn.map((point) => point.y), ...chosen.flatMap(({ low, high }) => [low, high])];
    const ends = (values) => {
      const known = values.filter((value) => value !== undefined);
      return known.length ? [Math.min(...known), Math.max(...known)] : [1, 100];
    };
    const [across, upwards] = [ends(drawn.map((point) => point.x)), ends(heights)];
    const scale = (name, { cost }, domain, range) => {
      return { name, type: cost ? "log" : "linear", domain, range, zero: false, nice: !cost, padding: 14 };
    };
    const axis = (orient, { name, cost, format }, domain) => ({
      orient,
      scale: orient === "left" ? "y" : "x",
      title: orient === "left" ? null : name,
      grid: orient === "left",
      ticks: false,
      domain: orient !== "left",
      labelPadding: 7,
      titleAnchor: "start",
      titlePadding: 8,
      tickCount: 5,
      ...(cost ? { format, values: ticks(...domain) } : {}),
      labelOverlap: true,
    });
    const at = (more) => ({ x: { scale: "x", field: "x" }, y: { scale: "y", field: "y" }, ...more });
    const value = (name) => ({ value: name });
    const padding = { left: 42, right: 10, top: 40, bottom: 50 };
    return {
      width: place.clientWidth - padding.left - padding.right,
      height: place.clientWidth < 500 ? 240 : 320,
      padding,
      autosize: "none",
      title: { text: y.name, anchor: "start", frame: "group", dx: -padding.left, offset: 8 },
      data: [
        { name: "rows", values: drawn },
        { name: "front", values: best },
        { name: "chosen", values: chosen },
      ],
      scales: [
        scale("x", x, across, "width"),
        scale("y", y, upwards, "height"),
      ],
      axes: [axis("bottom", x, across), axis("left", y, upwards)],
      marks: [
        {
          type: "line",
          from: { data: "front" },
          encode: { enter: at({ interpolate: value("step-after"), stroke: value(accent), opacity: value(0.6) }) },
        },
        {
          type: "rule",
          from: { data: "chosen" },
          encode: {
            enter: {
              x: { scale: "x", field: "x" },
              y: { scale: "y", field: "low" },
              y2: { scale: "y", field: "high" },
              stroke: value(other),
              strokeWidth: value(2),
              opacity: { signal: "isValid(datum.low) ? 0.7 : 0" },
            },
          },
        },
        {
          type: "symbol",
          name: "dots",
          from: { data: "rows" },
          encode: {
            enter: at({
              shape: { signal: "datum.sign ? 'diamond' : 'circle'" },
              size: { signal: "datum.sign ? 170 : 50" },
              fill: { signal: `datum.sign === '◇' ? '${paper}' : ${colour("datum")}` },
              fillOpacity: { signal: "datum.best || datum.sign ? 1 : 0.55" },
              stroke: { signal: `datum.sign ? '${other}' : 'transparent'` },
              strokeWidth: value(2),
              tooltip: { field: "about" },
              cursor: value("pointer"),
            }),
          },
        },
        {
          type: "text",
          from: { data: "dots" },
          interactive: false,
          encode: {
            enter: {
              text: { field: "datum.row" },
              fontSize: value(12),
              fill: { signal: colour("datum.datum") },
            },
          },
          // Names stand where there is room, those of the chosen rows first.
          transform: [
            {
              type: "label",
              size: { signal: "[width, height]" },
              anchor: ["top-right", "right", "bottom-right", "top", "bottom", "top-left", "left", "bottom-left"],
              offset: [2],
              sort: { field: "datum.datum.rank" },
            },
          ],
        },
      ],
      config: {
        title: { font, fontSize: 14, fontWeight: "normal", color: ink },
        axis: {
          labelFont: font, titleFont: font, labelFontSize: 12, titleFontSize: 14, titleFontWeight: "normal",
          labelColor: ink, titleColor: ink, gridColor: ink, gridOpacity: 0.13, domainColor: ink, domainOpacity: 0.3,
        },
        text: { font },
      },
    };
  }

  // -- the page -----------------------------------------------------------------------------

  function show() {
    table = EXPLORE.tables[$("table").value];
    fill();
    compare();
    filter();
  }

  const CHOICES = ["table", "home", "kind", "find", "x", "y"];

  // What was chosen stands in the address, so that a link shows others the same.
  function remember() {
    const pairs = CHOICES.map((name) => [name, $(name).value]).filter(([, value]) => value);
    const chosen = [["change", table.rows[change].row], ["base", table.rows[base].row]];
    history.replaceState(null, "", `#${new URLSearchParams([...pairs, ...chosen])}`);
  }

  function recall() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const put = (name) => {
      const before = $(name).value;
      if (asked.has(name)) $(name).value = asked.get(name);
      if ($(name).value === "" && asked.get(name)) $(name).value = before; // there is no such choice
    };
    put("table");
    show();
    CHOICES.slice(1).forEach(put);
    const at = (name, otherwise) => {
      const i = table.rows.findIndex(({ row }) => row === asked.get(name));
      return i < 0 ? otherwise : i;
    };
    [change, base] = [at("change", change), at("base", base)];
    compare();
    filter();
  }

  // The listed rows as a table for other programs.
  function csv() {
    const quoted = (value) => (/[",]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
    const names = Object.keys(table.rows[0].values);
    const head = ["row", "title", "test_low", "test_high", ...names];
    const lines = listed().map(({ row, title, values, intervals: { test } }) =>
      [row, title, test.low, test.high, ...names.map((name) => values[name])].map((value) => quoted(`${value ?? ""}`)));
    const text = [head, ...lines].map((line) => `${line.join(",")}\n`).join("");
    save("rows.csv", text);
  }

  function start() {
    if (typeof EXPLORE === "undefined" || !EXPLORE.tables.length) {
      const text = "The results are not here: the command “make book” puts them into the page.";
      return Object.assign($("problem"), { textContent: text, hidden: false });
    }
    for (const section of document.querySelectorAll(".explore")) section.hidden = false;
    EXPLORE.tables.forEach(({ name }, i) => $("table").append(option(i, name)));
    for (const [axis, first] of [["x", "seconds"], ["y", "test"]]) {
      $(axis).append(...Object.entries(QUANTITIES).map(([key, { name }]) => option(key, name)));
      $(axis).value = first;
    }
    const then = (act) => () => {
      act();
      remember();
    };
    for (const axis of ["x", "y"]) $(axis).onchange = then(plot);
    $("table").onchange = then(show);
    $("home").onchange = then(filter);
    $("kind").onchange = then(filter);
    $("find").oninput = then(filter);
    $("csv").onclick = csv;
    $("rows").onkeydown = walk;
    const picked = () => {
      [change, base] = [Number($("change").value), Number($("base").value)];
      compare();
      plot();
    };
    $("change").onchange = then(picked);
    $("base").onchange = then(picked);
    $("swap").onclick = then(() => {
      [change, base] = [base, change];
      compare();
      plot();
    });
    recall();
    addEventListener("hashchange", () => location.hash.includes("=") && recall());
    let width = $("plot").clientWidth;
    new ResizeObserver(() => {
      if ($("plot").clientWidth === width) return;
      width = $("plot").clientWidth;
      plot();
    }).observe($("plot"));
  }

  start();
}
