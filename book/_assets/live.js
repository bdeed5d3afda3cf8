// The page "A model in the page": what the reader types, and what the models make of it.
// The index (LIVE), the tokenizer and the model stand in scripts of their own, loaded before this one.

"use strict";

// -- models: loaded when they are asked for ---------------------------------------------------

const folder = new URL("live/", document.currentScript.src);
const parts = {}; // promises of tensors, by the part's name
const trunks = {}; // shared by the models that do not change them
const models = {}; // by row

function part(name) {
  parts[name] ??= new Promise((resolve, reject) => {
    const { file, tensors } = LIVE.parts[name];
    const script = document.createElement("script");
    script.src = new URL(file, folder);
    script.onload = () => unpack(PARTS[name], tensors).then(resolve, reject).finally(() => delete PARTS[name]);
    script.onerror = () => reject(new Error(`${file} is not there`));
    document.head.append(script);
  });
  return parts[name];
}

async function load(variant) {
  const tensors = sum(await Promise.all(variant.parts.map(part)));
  const trunk = (trunks[[variant.trunk, variant.causal]] ??= new Trunk(tensors, LIVE.config, variant.causal));
  models[variant.row] = new Classifier(tensors, LIVE.config, variant, trunk);
}

// -- the page ---------------------------------------------------------------------------------

{
  const $ = (id) => document.getElementById(`live-${id}`);
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const percent = (share) => `${(100 * share).toFixed(share < 0.1 || share > 0.9 ? 1 : 0)}%`;
  const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
  const quoted = (token) => `\u201c${tokenizer.show(token)}\u201d`;
  const pause = () => new Promise((resolve) => setTimeout(resolve));

  // -- the message --------------------------------------------------------------------------

  let tokenizer;
  let message = { tokens: [], own: 0 };

  // The reader's message as tokens: cut to the length of training, then filled up.
  function read() {
    const { max_length: limit, end } = LIVE.config;
    const text = $("text").value;
    const all = text.trim() ? tokenizer.encode(text) : [];
    const own = Math.min(all.length, limit);
    if ($("trained").checked) $("padding").value = limit - own;
    const padding = Number($("padding").value);
    message = { tokens: [...all.slice(0, limit), ...Array(padding).fill(end)], own };
    $("amount").value = count(padding, "token");
    $("note").textContent =
      own === 0
        ? "Type a message, or choose one of these."
        : all.length > limit
          ? `${count(all.length, "token")}; only the first ${limit} are read, as in training.`
          : `${count(own, "token")}.`;
  }

  // -- the answers --------------------------------------------------------------------------

  const cells = {}; // by row: where its answer stands

  function addRow(variant) {
    const size = variant.parts.reduce((bytes, name) => bytes + (name in parts ? 0 : LIVE.parts[name].bytes), 0);
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
    $("row").querySelector(`[value="${variant.row}"]`).disabled = false;
  }

  function answer(row, spam) {
    const [bar, number] = cells[row].firstChild.children;
    bar.firstChild.style.width = spam === null ? 0 : `${100 * spam}%`;
    number.textContent = spam === null ? "\u2013" : percent(spam);
  }

  // -- what is looked at --------------------------------------------------------------------

  function looks() {
    const { tokens, own } = message;
    const model = models[$("row").value];
    if (!model || !own) {
      $("tokens").replaceChildren();
      $("looks").textContent = "";
      return;
    }
    model.spam(tokens, own); // it has read this message, or does so now
    const block = Number($("block").value);
    const head = $("head").value === "mean" ? null : Number($("head").value);
    const at = model.position(own, tokens.length);
    const shares = model.looks(block, head, own, tokens.length);
    const most = Math.max(...shares);
    const boxes = tokens.map((token, t) => {
      const padding = t >= own;
      const box = element("li", { textContent: padding ? "" : tokenizer.show(token), title: percent(shares[t]) });
      box.classList.toggle("live-pad", padding);
      box.classList.toggle("live-read", t === at);
      if (padding) box.setAttribute("aria-hidden", "true");
      box.style.setProperty("--share", `${(60 * shares[t]) / most}%`);
      return box;
    });
    $("tokens").replaceChildren(...boxes);

    const order = [...shares.keys()].filter((t) => t < own && shares[t] >= 0.005).sort((s, t) => shares[t] - shares[s]);
    const words = order.slice(0, 3).map((t) => `${quoted(tokens[t])} ${percent(shares[t])}`);
    const behind = shares.slice(own).reduce((total, share) => total + share, 0);
    const from = [];
    if (behind >= 0.005) from.push(`${percent(behind)} from padding`);
    if (words.length) from.push(`${from.length ? "and most of the rest" : "most"} from ${words.join(", ")}`);
    const where = at < own ? quoted(tokens[at]) : "padding";
    $("looks").textContent = `Row ${$("row").value} reads token ${at + 1}, ${where}. It takes ${from.join(" ")}.`;
  }

  // -- one change, one update ---------------------------------------------------------------

  let turn = 0;
  let said;

  // Every model in turn; the page can be used in between, and a newer update ends an older one.
  async function update() {
    const mine = ++turn;
    read();
    const answers = [];
    let busy = 0;
    for (const row of Object.keys(models)) {
      const began = performance.now();
      const spam = message.own ? models[row].spam(message.tokens, message.own) : null;
      answer(row, spam);
      if (row === $("row").value) looks();
      busy += performance.now() - began;
      if (spam !== null) answers.push(`row ${row} ${percent(spam)}`);
      await pause();
      if (mine !== turn) return;
    }
    if (answers.length) $("note").textContent += ` ${count(answers.length, "answer")} in ${Math.ceil(busy)} ms.`;
    clearTimeout(said); // a screen reader hears the answers once the typing stops
    said = setTimeout(() => {
      $("status").textContent = `Spam: ${answers.join(", ") || "no message"}`;
    }, 700);
  }

  async function start() {
    const problem = (text) => Object.assign($("problem"), { textContent: text, hidden: false });
    if (typeof LIVE === "undefined") return problem("The models are not here: the command \u201cmake book\u201d makes them.");
    if (typeof DecompressionStream === "undefined") return problem("The models need a newer browser than this one.");
    document.getElementById("live").hidden = false;
    tokenizer = new Tokenizer(LIVE.ranks);
    $("padding").max = Math.max(100, LIVE.config.max_length - 1);
    for (let i = 0; i < LIVE.config.n_layers; i++) $("block").append(element("option", { value: i, textContent: i + 1 }));
    $("block").value = LIVE.config.n_layers - 1;
    $("head").append(element("option", { value: "mean", textContent: "all" }));
    for (let i = 0; i < LIVE.config.n_heads; i++) $("head").append(element("option", { value: i, textContent: i + 1 }));

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
    for (const name of ["row", "block", "head"]) $(name).onchange = looks;
    for (const button of document.querySelectorAll(".live-examples button")) {
      button.onclick = () => {
        $("text").value = button.textContent;
        update();
      };
    }

    const first = LIVE.variants.filter((variant) => variant.at_once);
    for (const variant of first) variant.parts.forEach(part);
    LIVE.variants.forEach(addRow);
    read();
    await Promise.all(first.map(show));
    $("row").value = first[0].row;
    await update();
  }

  start();
}
