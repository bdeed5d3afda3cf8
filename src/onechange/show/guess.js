// Guess first: a slider that commits, and all guesses beside the answers. Guesses stay in this browser.
(() => {
  const KEY = "onechange.guesses";
  const TURNS = [0, 1, 1.8, 0.8, 1.2, 0.2].map((turn) => turn * Math.PI); // where a label may stand about its dot
  const COLOUR = "var(--oc-change, #b3420d)";
  const ENDING = location.pathname.endsWith(".html") ? ".html" : ".ipynb";
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const svg = (tag, attributes = {}, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };

  // -- what is kept ----------------------------------------------------------------------------

  /** Every guess by its question's name. Whatever else lies under the key is no guess. */
  function kept() {
    try {
      const found = Object.entries(JSON.parse(localStorage.getItem(KEY)));
      return Object.fromEntries(found.filter(([, value]) => Number.isFinite(value)));
    } catch {
      return {}; // nothing there, or rubbish, or storage is refused
    }
  }
  const guessOf = (q, all) => {
    const value = Object.hasOwn(all, q.name) ? all[q.name] : NaN;
    return value >= q.least && value <= q.most ? value : null;
  };
  /** Whether it could be kept. */
  function keep(q, value) {
    try {
      localStorage.setItem(KEY, JSON.stringify({ ...kept(), [q.name]: value }));
      return true;
    } catch {
      return false;
    }
  }
  /** A button that asks once more before every guess is forgotten. */
  function forget() {
    const [words, really] = ["Forget my guesses", "Really forget all of them? Press again"];
    const button = element("button", { type: "button", className: "oc-forget", textContent: words });
    button.onblur = () => (button.textContent = words);
    button.onclick = () => {
      if (button.textContent !== really) return (button.textContent = really);
      try {
        localStorage.removeItem(KEY);
      } catch {} // refused: then nothing was kept
      dispatchEvent(new Event(KEY));
    };
    return button;
  }

  // -- words -----------------------------------------------------------------------------------

  const plain = (x, most, least = 0) =>
    x.toLocaleString("en", { minimumFractionDigits: least, maximumFractionDigits: most }).replace(/^-0?$/, "0").replace("-", "\u2212");
  /** A number of a question's, with a sign where it asks for a difference; an answer has all its digits. */
  const bare = (q, x, least) => (q.least < 0 && x > 0 ? "+" : "") + plain(x, q.digits, least);
  const number = (q, x, least) => bare(q, x, least) + q.unit;
  const answered = (q) => number(q, q.value, q.digits);
  const counted = (q) => q.low === q.high;
  const inside = (q, x) => (counted(q) ? Math.abs(x - q.value) <= q.step / 2 : x >= q.low && x <= q.high);
  const points = (q, x) => (100 * x) / q.whole;

  function verdict(q, x) {
    const yours = `Your guess of ${number(q, x)}`;
    if (inside(q, x)) return `${yours} ${counted(q) ? "is right" : "lies inside it"}.`;
    const off = plain(x < q.low ? q.low - x : x - q.high, q.digits);
    const unit = { " %": " points", " points": " points" }[q.unit] ?? (q.unit.startsWith(" of ") ? "" : q.unit);
    return `${yours} is ${off}${off === "1" ? unit.replace(/s$/, "") : unit} ${x < q.low ? "below" : "above"} it.`;
  }

  // -- a question ------------------------------------------------------------------------------

  function question(box) {
    const q = JSON.parse(box.dataset.question);
    const share = (x) => (x - q.least) / (q.most - q.least);
    const [words, details, said] = [".oc-question", "details", ".oc-said"].map((part) => box.querySelector(part));
    const range = element("input", { type: "range", min: q.least, max: q.most, step: q.step, className: "oc-untouched" });
    range.value = (q.least + q.most) / 2;
    const yours = element("span", { className: "oc-yours" });
    const hint = element("span", { className: "oc-hint", textContent: "click or drag along the line" });
    const interval = element("span", { className: "oc-interval", hidden: true });
    const dot = element("span", { className: "oc-measured", hidden: true });
    const there = element("span", { className: "oc-there", hidden: true, textContent: answered(q) });
    const ends = ["least", "most"].map((end) => element("span", { className: `oc-${end}`, textContent: number(q, q[end]) }));
    for (const [node, values] of [[interval, { from: q.low, to: q.high }], [dot, { x: q.value }], [there, { x: q.value }]]) {
      for (const [name, value] of Object.entries(values)) node.style.setProperty(`--${name}`, share(value));
    }
    const line = element("div", { className: "oc-line" }, yours, hint, interval, dot, range, there, ...ends);
    const commit = element("button", { type: "button", className: "oc-commit", textContent: "Commit my guess", disabled: true });
    const more = element("p", { className: "oc-more", hidden: true });
    if (q.name && ENDING === ".html") more.append(element("a", { href: "guesses.html", textContent: "All my guesses" }));
    if (q.name) more.append(forget());
    box.setAttribute("role", "group");
    for (const named of [box, range]) named.setAttribute("aria-label", q.words);
    range.setAttribute("aria-valuetext", "no guess yet");
    words.after(line, commit);
    for (const mark of [yours, hint]) mark.setAttribute("aria-hidden", "true");
    box.append(more);

    function moved() {
      const value = Number(range.value);
      range.classList.remove("oc-untouched");
      range.setAttribute("aria-valuetext", number(q, value));
      yours.textContent = number(q, value);
      yours.style.setProperty("--x", share(value));
      hint.hidden = true;
      commit.disabled = false;
    }
    function answer() {
      for (const node of [interval, dot, there]) node.hidden = false;
      range.disabled = true;
      commit.hidden = hint.hidden = true;
    }
    function committed(value) {
      range.value = value;
      moved();
      answer();
      details.hidden = true;
      said.textContent = `${q.said} ${verdict(q, value)}`;
      more.hidden = !q.name;
    }
    range.oninput = range.onclick = moved; // a click in the middle moves nothing, and is a guess all the same
    commit.onclick = () => {
      const value = Number(range.value);
      const stays = !q.name || keep(q, value);
      committed(value);
      if (!stays) said.textContent += " This browser keeps nothing: the guess is gone when you leave the page.";
      said.focus();
    };
    details.ontoggle = () => {
      if (!details.open || range.disabled) return;
      answer();
      range.hidden = yours.hidden = true;
    };
    const before = q.name ? guessOf(q, kept()) : null;
    if (before !== null) committed(before);
  }

  // -- all of them -----------------------------------------------------------------------------

  const link = (q, textContent) => element("a", { href: q.at.replace("#", `${ENDING}#`), textContent });

  function calibration(box) {
    const all = kept();
    const every = JSON.parse(box.querySelector("script").textContent);
    const made = every.map((q) => ({ q, x: guessOf(q, all) })).filter(({ x }) => x !== null);
    for (const one of made) one.off = Math.abs(points(one.q, one.x) - points(one.q, one.q.value));
    made.sort((a, b) => b.off - a.off);
    const rest = every.filter((q) => !made.some((one) => one.q === q));
    box.replaceChildren();
    const none = "You have committed to no guess yet, or your browser has kept none. The first question is: ";
    if (!made.length) return box.append(element("p", {}, none, link(every[0], every[0].words)));
    const measured = made.filter(({ q }) => !counted(q));
    const hit = measured.filter(({ q, x }) => inside(q, x)).length;
    const mean = made.reduce((sum, { off }) => sum + off, 0) / made.length;
    const said = [`You committed to ${made.length} of ${every.length} guesses.`];
    if (measured.length) said.push(`Of ${measured.length} about something measured, ${hit} lay inside the 95 % interval.`);
    said.push(`On average you were ${plain(mean, 1, 1)} points off.`);
    box.append(element("p", { className: "oc-summary", textContent: said.join(" ") }), figures(made), table(made));
    if (rest.length) {
      const names = rest.flatMap((q, i) => [i ? ", " : "", link(q, q.name)]);
      box.append(element("p", { className: "oc-rest" }, "Not guessed yet: ", ...names, "."));
    }
    box.append(element("p", { className: "oc-more" }, forget()));
  }

  function table(made) {
    const head = element("tr", {}, ...["#", "question", "your guess", "answer", "points off"].map((title) =>
      element("th", { scope: "col", textContent: title })));
    const rows = made.map(({ q, x, off }, i) => {
      const interval = counted(q) ? "" : ` [${bare(q, q.low, q.digits)}, ${bare(q, q.high, q.digits)}]`;
      const cells = [i + 1, link(q, q.name), number(q, x), answered(q) + interval, plain(off, 1, 1)];
      return element("tr", {}, ...cells.map((cell) => element("td", {}, cell)));
    });
    const title = "Your guesses, those missed most first";
    return element("table", {}, element("caption", { textContent: title }), element("thead", {}, head), element("tbody", {}, ...rows));
  }

  const KEYS = ["\u25cf inside the interval, or counted right", "\u25cb outside", "\u2571 guess and answer are the same"];

  /** What is asked in per cent, and what is asked as a difference, which would lie in a heap on the same axes. */
  function figures(made) {
    const drawn = element("div", { className: "oc-figures" });
    for (const [words, mine] of [["of a hundred", (q) => q.least >= 0], ["points gained or lost", (q) => q.least < 0]]) {
      const some = made.map((one, i) => ({ ...one, label: i + 1 })).filter(({ q }) => mine(q));
      if (some.length) drawn.append(figure(some, words));
    }
    const key = element("p", { className: "oc-key" }, ...KEYS.map((textContent) => element("span", { textContent })));
    return element("div", {}, drawn, key);
  }

  /** Guesses along, answers up with their intervals, in points; on the diagonal both are the same. */
  function figure(made, words) {
    const [size, left, foot] = [330, 54, 48];
    const ends = made.flatMap(({ q, x }) => [x, q.low, q.high].map((value) => points(q, value)));
    const [least, most] = [Math.min(...ends), Math.max(...ends) + 0.01]; // never nothing between them
    const tick = [1, 2, 5, 10, 20].find((step) => (most - least) / step <= 5) ?? 25;
    const [low, high] = [tick * Math.floor(least / tick), tick * Math.ceil(most / tick)];
    const along = (value) => left + ((size - left - 10) * (value - low)) / (high - low);
    const up = (value) => size - foot - ((size - foot - 10) * (value - low)) / (high - low);
    const middle = (low + high) / 2;
    const ink = { stroke: "currentColor", "stroke-opacity": 0.35 };
    const says = made.map(({ label, q, x }) => `${label} ${q.name}: ${number(q, x)}, answer ${answered(q)}`).join("; ");
    const chart = svg("svg", { viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": `Guesses against answers, ${words}. ${says}` });
    const text = (x, y, anchor, said) => chart.append(svg("text", { x, y, "text-anchor": anchor }, said));
    const stroke = (x1, y1, x2, y2, more = ink) => chart.append(svg("line", { x1, y1, x2, y2, ...more }));
    for (let value = low; value <= high; value += tick) {
      stroke(along(value), up(low) + 8, along(value), up(low) + 13);
      stroke(left - 13, up(value), left - 8, up(value));
      text(along(value), up(low) + 26, "middle", plain(value, 0));
      text(left - 16, up(value) + 4, "end", plain(value, 0));
    }
    stroke(left - 8, up(low), left - 8, up(high));
    stroke(left, up(low) + 8, along(high), up(low) + 8);
    stroke(left, up(low), along(high), up(high), { ...ink, "stroke-dasharray": "4 4" });
    text(along(middle), size - 4, "middle", `your guess, ${words}`);
    chart.append(svg("text", { transform: `translate(11 ${up(middle)}) rotate(-90)`, "text-anchor": "middle" }, "answer"));
    const places = made.map(({ q, x }) => [along(points(q, x)), up(points(q, q.value))]);
    const taken = [...places];
    made.forEach(({ label, q, x }, i) => {
      const [cx, cy] = places[i];
      stroke(cx, up(points(q, q.low)), cx, up(points(q, q.high)), { stroke: COLOUR, "stroke-width": 2 });
      const dot = { cx, cy, r: 4.5, stroke: COLOUR, "stroke-width": 2, fill: inside(q, x) ? COLOUR : "var(--oc-paper, Canvas)" };
      chart.append(svg("circle", dot, svg("title", {}, `${q.name}: ${verdict(q, x)}`)));
      const around = [15, 21, 27].flatMap((far) => TURNS.map((turn) => [cx + far * Math.cos(turn), cy + far * Math.sin(turn)]));
      const free = around.find(([a, b]) => taken.every(([c, d]) => Math.hypot(a - c, b - d) > 13)) ?? around[0];
      taken.push(free);
      text(free[0], free[1] + 4, "middle", `${label}`);
    });
    return chart;
  }

  for (const [name, draw] of [["oc-guess", question], ["oc-calibration", calibration]]) {
    for (const box of document.querySelectorAll(`.${name}:not([data-ready])`)) {
      const first = box.innerHTML;
      box.dataset.ready = "yes";
      const drawn = () => ((box.innerHTML = first), draw(box));
      drawn();
      addEventListener(KEY, drawn); // every guess was forgotten
    }
  }
})();
