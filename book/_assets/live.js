// The page "A model in the page": what the reader types, and what the models make of it.
// The index (LIVE), the tokenizer, the model and how it is loaded stand in scripts of their own, before this one.

"use strict";

// -- the page ---------------------------------------------------------------------------------

{
  const { element, percent, count, pause } = PAGE;
  const $ = (id) => document.getElementById(`live-${id}`);
  const quoted = (token) => `\u201c${tokenizer.show(token)}\u201d`;

  // -- the message --------------------------------------------------------------------------

  let tokenizer;
  let written = []; // the message's tokens as they were typed
  let dropped = new Set(); // places in it that are left out
  let asked = null; // a place in it that is to be read
  let message = { tokens: [], own: 0, at: null, text: "" };

  // The reader's message as tokens: cut to the length of training, some left out, then filled up.
  function read() {
    const { max_length: limit, end } = LIVE.config;
    const typed = $("text").value;
    const text = typed.slice(0, LONGEST);
    const all = text.trim() ? tokenizer.encode(text) : [];
    if (String(all.slice(0, limit)) !== String(written)) [written, dropped, asked] = [all.slice(0, limit), new Set(), null];
    const kept = written.filter((_, i) => !dropped.has(i));
    const own = kept.length;
    if ($("trained").checked) $("padding").value = limit - own;
    const padding = Number($("padding").value);
    const at = asked === null ? null : asked - [...dropped].filter((i) => i < asked).length;
    const said = dropped.size || all.length > limit ? tokenizer.decode(kept) : text;
    message = { tokens: [...kept, ...Array(padding).fill(end)], own, at, text: said };
    $("amount").value = count(padding, "token");
    $("again").hidden = !dropped.size && asked === null;
    const notes = [typed.length > LONGEST && `only the first ${LONGEST.toLocaleString("en")} characters are looked at`];
    notes.push(all.length > limit && `only the first ${limit} are read, as in training`);
    notes.push(dropped.size && `${dropped.size} left out`, asked !== null && `every row reads ${quoted(written[asked])}`);
    const more = notes.filter(Boolean);
    $("note").textContent =
      all.length === 0
        ? "Type a message, or choose one of these."
        : `${[count(all.length, "token"), ...more].join("; ")}.`;
  }

  // -- the answers --------------------------------------------------------------------------

  const cells = {}; // by row: where its answer stands
  const rows = () => [...LIVE.variants, LIVE.counted].map(({ row }) => row).filter((row) => row in models);

  function addRow(variant) {
    const wanted = (variant.parts ?? []).filter((name) => !(name in parts));
    const size = wanted.reduce((bytes, name) => bytes + LIVE.parts[name].bytes, variant.bytes ?? 0);
    const cell = element("td", { tabIndex: -1 });
    const button = element("button", { type: "button", textContent: `load ${(size / 1e6).toFixed(1)} MB` });
    button.setAttribute("aria-label", `${button.textContent} for row ${variant.row}, ${variant.title}`);
    button.onclick = async () => {
      cell.focus();
      await show(variant);
      update();
    };
    cell.append(button);
    cells[variant.row] = cell;
    const name = element("th", { scope: "row" }, element("b", { textContent: variant.row }), ` ${variant.title}`);
    $("answers").append(element("tr", {}, name, cell, element("td", { textContent: percent(variant.test) })));
    if (variant !== LIVE.counted)
      $("row").append(element("option", { value: variant.row, textContent: variant.row, disabled: true }));
  }

  async function show(variant) {
    const cell = cells[variant.row];
    cell.replaceChildren(element("span", { className: "live-wait", textContent: "loading \u2026" }));
    try {
      await load(variant);
    } catch (error) {
      cell.textContent = `could not be loaded: ${error.message}`;
      return;
    }
    const bar = element("div", { className: "live-bar" }, element("i"));
    cell.replaceChildren(element("div", { className: "live-answer" }, bar, element("span")));
    const option = $("row").querySelector(`[value="${variant.row}"]`);
    if (option) option.disabled = false;
    $("all").hidden = rows().length === LIVE.variants.length + 1;
  }

  async function all() {
    $("all").disabled = true;
    for (const variant of [...LIVE.variants, LIVE.counted]) if (!(variant.row in models)) await show(variant);
    $("all").disabled = false;
    update();
  }

  function answer(row, spam) {
    const [bar, number] = cells[row].firstChild.children;
    bar.firstChild.style.width = spam === null ? 0 : `${100 * spam}%`;
    number.textContent = spam === null ? "\u2013" : percent(spam);
  }

  // -- against padding ----------------------------------------------------------------------

  let lines = [];
  const drawCurve = () => CURVE.draw($("curve"), lines, $("row").value, Number($("padding").value), Number($("padding").max));

  // Every row's answer for every amount of padding. A causal model has read it all once; a model whose tokens see
  // each other begins anew at each length, so that only some are asked.
  async function curves(mine) {
    const { end } = LIVE.config;
    const most = Number($("padding").max);
    const kept = message.tokens.slice(0, message.own);
    const whole = [...kept, ...Array(most).fill(end)];
    lines = [];
    for (const { row, causal } of LIVE.variants) {
      if (!(row in models)) continue;
      const line = { row: String(row), points: [] };
      lines.push(line);
      if (causal) models[row].spam(whole, message.own, message.at ?? whole.length - 1);
      const step = causal ? 1 : Math.ceil(most / 8);
      for (let padding = 0; padding <= most; padding += step) {
        const tokens = whole.slice(0, message.own + padding);
        line.points.push([padding, models[row].spam(tokens, message.own, message.at)]);
        if (!causal) {
          await pause();
          if (mine !== turn) return;
        }
      }
      await pause();
      if (mine !== turn) return;
      drawCurve();
    }
    looks(); // the chosen model has read other lengths meanwhile
  }

  // -- what is looked at --------------------------------------------------------------------

  function looks() {
    const { tokens, own, at: place } = message;
    const model = models[$("row").value];
    if (!model || !own) {
      $("tokens").replaceChildren();
      $("looks").textContent = "";
      return;
    }
    model.spam(tokens, own, place); // it has read this message, or does so now
    const block = Number($("block").value);
    const head = $("head").value === "mean" ? null : Number($("head").value);
    const at = place ?? model.position(own, tokens.length);
    const shares = model.looks(block, head, own, tokens.length, place);
    const most = Math.max(...shares);
    let t = -1; // the place among those that are not left out
    const boxes = written.map((token, i) => {
      const out = dropped.has(i);
      if (!out) t++;
      const button = element("button", { type: "button", textContent: tokenizer.show(token) });
      button.onclick = () => clicked(i);
      button.title = out ? "left out" : percent(shares[t]);
      const box = element("li", {}, button);
      box.classList.toggle("live-out", out);
      box.classList.toggle("live-read", !out && t === at);
      box.style.setProperty("--share", out ? "0%" : `${(60 * shares[t]) / most}%`);
      return box;
    });
    for (let p = own; p < tokens.length; p++) {
      const box = element("li", { title: percent(shares[p]), className: "live-pad", ariaHidden: "true" });
      box.classList.toggle("live-read", p === at);
      box.style.setProperty("--share", `${(60 * shares[p]) / most}%`);
      boxes.push(box);
    }
    const focused = [...$("tokens").children].findIndex((box) => box.contains(document.activeElement));
    $("tokens").replaceChildren(...boxes);
    if (focused >= 0) boxes[focused]?.firstChild?.focus();

    const order = [...shares.keys()].filter((t) => t < own && shares[t] >= 0.005).sort((s, t) => shares[t] - shares[s]);
    const words = order.slice(0, 3).map((t) => `${quoted(tokens[t])} ${percent(shares[t])}`);
    const behind = shares.slice(own).reduce((total, share) => total + share, 0);
    const from = [];
    if (behind >= 0.005) from.push(`${percent(behind)} from padding`);
    if (words.length) from.push(`${from.length ? "and the most of the rest" : "the most"} from ${words.join(", ")}`);
    const where = at < own ? quoted(tokens[at]) : "padding";
    $("looks").textContent = `Row ${$("row").value} reads token ${at + 1}, ${where}. It takes ${from.join(" ")}.`;
  }

  // A click on a token reads there, or leaves it out; a second one takes that back.
  function clicked(i) {
    if ($("click").value === "read") {
      asked = asked === i ? null : i;
      dropped.delete(i);
    } else if (dropped.has(i)) dropped.delete(i);
    else if (written.length - dropped.size > 1) {
      dropped.add(i);
      if (asked === i) asked = null;
    }
    update();
  }

  // The message's words in the colours of what counting makes of them.
  function words() {
    const model = models[LIVE.counted.row];
    $("counted").hidden = !model || !message.own;
    if (!model) return;
    const found = model.words(message.text);
    const most = Math.max(...found.map(({ adds }) => Math.abs(adds)), 1e-9);
    const boxes = found.slice(0, 200).map(({ word, adds }) => {
      const box = element("li", { textContent: word, title: `${adds > 0 ? "+" : ""}${adds.toFixed(2)}` });
      box.className = adds > 0 ? "live-spam" : "live-ham";
      box.style.setProperty("--share", `${(60 * Math.abs(adds)) / most}%`);
      return box;
    });
    $("words").replaceChildren(...boxes);
    const [top] = [...found].sort((a, b) => Math.abs(b.adds) - Math.abs(a.adds));
    $("weighs").textContent = top
      ? `For row ${LIVE.counted.row}, \u201c${top.word}\u201d weighs most, towards ${LIVE.classes[+(top.adds > 0)]}. The order of the words does not count.`
      : "";
  }

  // -- one change, one update ---------------------------------------------------------------

  let turn = 0;
  let said;

  // Every model in turn; the page can be used in between, and a newer update ends an older one.
  async function update() {
    const mine = ++turn;
    read();
    remember();
    const answers = [];
    let busy = 0;
    for (const row of rows()) {
      const began = performance.now();
      const share = message.own ? spam(row, message) : null;
      answer(row, share);
      if (String(row) === $("row").value) looks();
      busy += performance.now() - began;
      if (share !== null) answers.push(`row ${row} ${percent(share)}`);
      await pause();
      if (mine !== turn) return;
    }
    words();
    if (answers.length) $("note").textContent += ` ${count(answers.length, "answer")} in ${Math.ceil(busy)} ms.`;
    clearTimeout(said); // a screen reader hears the answers once the typing stops
    said = setTimeout(() => {
      $("status").textContent = `Spam: ${answers.join(", ") || "no message"}`;
    }, 700);
    if (message.own) await curves(mine);
    else [lines] = [[], drawCurve()];
  }

  // -- the address: a link shows others the same ---------------------------------------------

  const CHOICES = ["text", "row", "block", "head", "click"];

  function remember() {
    const pairs = CHOICES.map((name) => [name, $(name).value.slice(0, LONGEST)]);
    if (!$("trained").checked) pairs.push(["padding", $("padding").value]);
    if (asked !== null) pairs.push(["read", asked]);
    if (dropped.size) pairs.push(["without", [...dropped].sort((a, b) => a - b).join("-")]);
    history.replaceState(null, "", `#${new URLSearchParams(pairs)}`);
  }

  // What the address asks for; rows that are not loaded yet are.
  async function recall() {
    const wanted = new URLSearchParams(location.hash.slice(1));
    if (wanted.has("text")) $("text").value = wanted.get("text");
    const variant = LIVE.variants.find(({ row }) => String(row) === wanted.get("row"));
    if (variant && !(variant.row in models)) await show(variant);
    for (const name of CHOICES.slice(1)) {
      const known = [...$(name).options].some(({ value, disabled }) => value === wanted.get(name) && !disabled);
      if (known) $(name).value = wanted.get(name);
    }
    if (wanted.has("padding")) {
      $("trained").checked = false;
      $("padding").value = wanted.get("padding");
    }
    read();
    const place = (text) => (/^\d+$/.test(text) && Number(text) < written.length ? Number(text) : null);
    asked = place(wanted.get("read") ?? "");
    dropped = new Set((wanted.get("without") ?? "").split("-").map(place).filter((i) => i !== null && i !== asked));
    if (dropped.size >= written.length) dropped.clear();
  }

  // -- the page -----------------------------------------------------------------------------

  function listen() {
    let typing;
    $("text").oninput = () => {
      clearTimeout(typing);
      typing = setTimeout(update, 80);
    };
    $("padding").oninput = () => {
      $("trained").checked = false;
      update();
    };
    $("trained").onchange = update;
    $("row").onchange = update;
    $("all").onclick = all;
    $("again").onclick = () => {
      [dropped, asked] = [new Set(), null];
      update();
      $("tokens").querySelector("button")?.focus();
    };
    for (const name of ["block", "head", "click"])
      $(name).onchange = () => {
        looks();
        remember();
      };
    for (const button of document.querySelectorAll(".live-examples button")) {
      button.onclick = () => {
        $("text").value = button.textContent;
        update();
      };
    }
    addEventListener("hashchange", () => recall().then(update));
    new ResizeObserver(drawCurve).observe($("curve").parentElement);
  }

  // What every loaded row says of a test message, filled up as in training.
  function answers(text) {
    return Object.fromEntries(rows().map((row) => [row, spam(row, asTrained(tokenizer, text))]));
  }

  async function start() {
    const problem = (text) => Object.assign($("problem"), { textContent: text, hidden: false });
    if (typeof LIVE === "undefined") return problem("The models are not here: the command \u201cmake book\u201d makes them.");
    if (typeof DecompressionStream === "undefined") return problem("The models need a newer browser than this one.");
    for (const section of document.querySelectorAll("section.live")) section.hidden = false;
    tokenizer = new Tokenizer(LIVE.ranks);
    $("padding").max = Math.max(100, LIVE.config.max_length - 1);
    for (let i = 0; i < LIVE.config.n_layers; i++) $("block").append(element("option", { value: i, textContent: i + 1 }));
    $("block").value = LIVE.config.n_layers - 1;
    $("head").append(element("option", { value: "mean", textContent: "all" }));
    for (let i = 0; i < LIVE.config.n_heads; i++) $("head").append(element("option", { value: i, textContent: i + 1 }));

    const first = LIVE.variants.filter((variant) => variant.at_once);
    for (const variant of first) variant.parts.forEach(part);
    [...LIVE.variants, LIVE.counted].forEach(addRow);
    read();
    await Promise.all(first.map(show));
    $("row").value = first[0].row;
    listen();
    await recall();
    GAME.start(LIVE.messages, LIVE.classes, answers);
    await update();
  }

  start();
}
