// The page "Run it yourself": what is asked for, the two threads that train, and what comes of it. The index
// (FINETUNE), the tokenizer, random numbers, statistics and figures stand in scripts of their own.

"use strict";

const folder = new URL("finetune/", document.currentScript.src);

{
  const $ = (id) => document.getElementById(`tune-${id}`);
  const { element, count, save } = PAGE;
  const option = (value, textContent) => element("option", { value, textContent });

  const FIRST_SEED = 123;
  const NUMBERS = {
    train_size: "training messages",
    num_epochs: "epochs",
    learning_rate: "learning rate",
    weight_decay: "weight decay",
    label_noise: "share of wrong labels",
  };
  const { signed } = FIGURES;

  // -- what is asked for ------------------------------------------------------------------------

  const number = (id, name) => {
    const field = $(id);
    const value = field.valueAsNumber;
    const { min, max } = $(name);
    const whole = name === "train_size" || name === "num_epochs";
    const fits = value >= Number(min) && value <= Number(max) && (!whole || Number.isInteger(value));
    if (!fits) throw new Wrong(`The ${NUMBERS[name]} must be a ${whole ? "whole " : ""}number from ${min} to ${max}.`);
    return value;
  };

  // Both experiments, by the fields of the package's Experiment.
  function experiments() {
    const base = { ...FINETUNE.start };
    for (const name of Object.keys(NUMBERS)) base[name] = number(name, name);
    const change = $("change").value;
    const more = change in NUMBERS ? { [change]: number("value", change) } : FINETUNE.rows[change].change;
    if (change in NUMBERS && base[change] === more[change])
      throw new Wrong(`Both sides have the same ${NUMBERS[change]}.`);
    if ($("own").value.trim()) base.dataset = "messages.csv";
    return [base, { ...base, ...more }];
  }

  const names = () => {
    const change = $("change").value;
    return [
      "the baseline",
      change in NUMBERS ? `${NUMBERS[change]} ${$("value").value}` : `row ${change}, ${FINETUNE.rows[change].title}`,
    ];
  };

  // The flags of an experiment: what differs from the package's defaults.
  function command(e) {
    const differs = Object.entries(e).filter(([name, value]) => value !== FINETUNE.defaults[name]);
    const flags = differs.flatMap(([name, value]) => (value === true ? [`--${name}`] : [`--${name}`, value]));
    return ["onechange", "run", ...flags].join(" ");
  }

  function python([base, change]) {
    const word = (value) => (typeof value === "string" ? `"${value}"` : value === true ? "True" : value);
    const list = (pairs) => pairs.map(([name, value]) => `${name}=${word(value)}`).join(", ");
    const given = Object.entries(base).filter(([name, value]) => value !== FINETUNE.defaults[name]);
    const changed = Object.entries(change).filter(([name, value]) => value !== base[name]);
    const lines = [
      "import onechange as oc",
      `base = oc.Experiment(${list(given)})`,
      `change = base.but(${list(changed)})`,
    ];
    return [...lines, `print(oc.compare(base, change, seeds=${$("seeds").value}))`].join("\n");
  }

  // -- the threads ------------------------------------------------------------------------------

  let tokenizer;
  let weights; // a promise
  function load() {
    weights ??= new Promise((resolve, reject) => {
      const { file, tensors } = FINETUNE.weights;
      const script = element("script", { src: new URL(file, folder) });
      script.onerror = () => reject(new Error(`${file} is not there`));
      script.onload = async () => {
        const found = await unpack(PARTS.pretrained, tensors);
        delete PARTS.pretrained;
        resolve(Object.fromEntries(Object.entries(found).map(([name, values]) => [name, Float32Array.from(values)])));
      };
      document.head.append(script);
    }).catch((error) => {
      weights = undefined;
      throw error;
    });
    return weights;
  }

  let sides = []; // { thread, notes, accuracies, right, running, batches, done, read, need }
  let asked = ""; // the settings they have, and under which names
  let told = { names: [], change: "" };
  let busy = 0; // sides at work

  function side(at, data) {
    const address = URL.createObjectURL(new Blob([FINETUNE.thread], { type: "text/javascript" }));
    const thread = new Worker(address);
    URL.revokeObjectURL(address);
    const labels = data[3].test.map(({ label }) => label),
      { train, test } = data[3];
    const need = train.length + test.length + Math.min(40, data[3].val.length);
    const one = { thread, labels, need, setting: data[2], test: {}, right: {}, answers: {} };
    Object.assign(one, { notes: {}, batches: {}, accuracies: {}, running: "", read: 0 });
    thread.onerror = (event) => failed(event.message ?? "the thread could not be started");
    thread.onmessage = ({ data: event }) => heard(one, event);
    thread.postMessage({ run: data });
    return one;
  }

  function heard(one, event) {
    const { kind, seed } = event;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (kind === "error") return failed(event.message);
    if (kind === "end") return ended(one);
    if (String(seed) !== one.running) Object.assign(one, { running: String(seed), batches: { ...one.batches, [seed]: [] } });
    if (kind === "read") one.read = event.ready;
    if (kind === "batches") one.batches[seed].push([event.step * 8 - 40, event.loss]);
    if (kind === "losses") (one.notes[seed] ??= []).push([event.examples, event.train.loss, event.val.loss]);
    if (kind === "accuracies")
      (one.accuracies[seed] ??= []).push([event.epoch, event.train.accuracy, event.val.accuracy]);
    if (kind === "final") {
      one.answers[seed] = event.answers;
      one.right[seed] = event.answers.map((shares, i) =>
        shares.indexOf(Math.max(...shares)) === one.labels[i] ? 1 : 0,
      );
      one.test[seed] = one.right[seed].reduce((sum, right) => sum + right, 0) / one.labels.length;
      one.read = one.need;
    }
    if (!calm || kind === "final") draw();
    now();
    if (kind === "final") said(seed);
  }

  const finished = () =>
    sides.length
      ? Object.keys(sides[0].right)
          .filter((seed) => seed in sides[1].right)
          .sort((a, b) => a - b)
      : [];

  function ended(one) {
    if (!(one.running in one.right)) {
      // it was stopped within a seed
      for (const kept of [one.notes, one.batches, one.accuracies]) delete kept[one.running];
    }
    one.running = "";
    if (--busy === 0) rest();
    draw();
  }

  function failed(message) {
    for (const { thread } of sides) thread.terminate();
    [sides, asked, busy] = [[], "", 0];
    rest();
    wrong(`The training stopped: ${message}.`);
  }

  const wrong = (text) => Object.assign($("wrong"), { textContent: text, hidden: !text });

  function rest() {
    $("go").disabled = false;
    $("stop").disabled = true;
    $("csv").disabled = !finished().length;
    now();
  }

  async function train() {
    wrong("");
    let both, data;
    try {
      both = experiments();
      data = both.map((e) => splits($("own").value, e.train_size, FIRST_SEED, tokenizer));
    } catch (error) {
      if (!(error instanceof Wrong)) throw error;
      return wrong(error.message);
    }
    const wanted = Array.from({ length: Number($("seeds").value) }, (_, i) => FIRST_SEED + i);
    const key = JSON.stringify([both, $("own").value]);
    const left = (one) => wanted.filter((seed) => !(seed in one.right));
    if (key === asked && sides.every((one) => !left(one).length))
      return wrong("These seeds are done. Ask for more, or change something.");
    $("go").disabled = true;
    $("stop").disabled = false;
    if (key !== asked) {
      for (const { thread } of sides) thread.terminate();
      [sides, asked] = [[], key];
      told = { names: names(), change: $("change").value };
      title(told.names);
      $("now").textContent = "Loading the model \u2026";
      try {
        const tensors = await load();
        if ($("stop").disabled) return; // stopped meanwhile
        sides = both.map((e, at) => {
          const { parts, classes, length } = data[at];
          const setting = { ...e, length, end: FINETUNE.end, fast: true };
          return side(at, [tensors, { ...FINETUNE.config, classes }, setting, parts]);
        });
      } catch (error) {
        asked = "";
        rest();
        return wrong(`The training could not start: ${error.message}.`);
      }
    }
    busy = sides.length;
    for (const one of sides) one.thread.postMessage({ seeds: left(one) });
    draw();
  }

  function stop() {
    for (const { thread } of sides) thread.postMessage({ stop: true });
    if (!busy) {
      asked = "";
      rest();
    }
    $("stop").disabled = true;
  }

  // -- what is shown ----------------------------------------------------------------------------

  // Points after each seed that both sides have finished.
  let known = { key: "", found: [] };
  function differences() {
    const seeds = finished();
    const key = `${asked} ${seeds}`;
    if (key === known.key) return known.found;
    const same = JSON.stringify(sides[0]?.labels) === JSON.stringify(sides[1]?.labels);
    const [base, change] = sides.map(({ right }) => seeds.map((seed) => right[seed]));
    const found = same ? seeds.map((_, i) => difference(base.slice(0, i + 1), change.slice(0, i + 1))) : [];
    const points = found.map(({ mean, low, high }) => ({ mean: 100 * mean, low: 100 * low, high: 100 * high }));
    known = { key, found: points };
    return points;
  }

  // What the package has stored of this change, and whether it is the very same setting.
  function stored() {
    const kept = FINETUNE.stored[told.change];
    const [base] = sides.map(({ setting }) => setting);
    if (!kept || !base || base.dataset) return null;
    const all = FINETUNE.messages.train[0].length;
    const same = Object.entries({ ...FINETUNE.start, train_size: all }).every(([name, value]) => base[name] === value);
    return { ...kept, same, all };
  }

  let waiting = false;
  function draw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      if (!sides.length) return;
      const losses = sides.flatMap(({ notes }) =>
        Object.values(notes)
          .flat()
          .flatMap((note) => note.slice(1)),
      );
      const top = Math.max(0.8, Math.min(3, Math.max(...losses, 0) * 1.05));
      sides.forEach((one, at) => {
        const { train_size: n, num_epochs: epochs } = one.setting;
        FIGURES.curves($(`curves-${at}`), at, { ...one, examples: Math.max(1, Math.floor(n / 8) * 8 * epochs), top });
      });
      const seeds = finished();
      $("results").hidden = !seeds.length;
      if (!seeds.length) return;
      const found = differences();
      const last = found.at(-1);
      const kept = stored();
      const accuracies = sides.map(({ test }) => seeds.map((seed) => 100 * test[seed]));
      FIGURES.dots($("dots"), told.names, accuracies);
      FIGURES.forest($("forest"), found, kept);
      const tested = count(sides[0].labels.length, "test message");
      const about = `${told.names[1]} against the baseline, ${count(seeds.length, "seed")}, ${tested}`;
      const sure = last.low > 0 || last.high < 0 ? "the interval leaves out zero" : "the interval holds zero";
      $("verdict").replaceChildren(element("small", { textContent: about }), ` ${points(last)}: ${sure}`);
      $("stored").textContent = kept ? beside(kept) : "";
      $("seedwise").replaceChildren(
        ...seeds.map((seed, i) => {
          const [a, b] = accuracies.map((list) => list[i]);
          const cells = [a.toFixed(1), b.toFixed(1), signed(b - a)].map((text) => element("td", { textContent: text }));
          return element("tr", {}, element("th", { scope: "row", textContent: seed }), ...cells);
        }),
      );
    });
  }

  const points = ({ mean, low, high }) => `${signed(mean)} points [${signed(low)}, ${signed(high)}]`;

  function beside(kept) {
    const how = `${count(kept.seeds, "seed")}, ${count(kept.all, "training message")}`;
    const alike = kept.same
      ? "It is the same setting as yours."
      : "Your setting is another one, so the two need not agree.";
    return `Stored (${how}): ${points(kept)}. ${alike}`;
  }

  function now() {
    if (!sides.length) return ($("now").textContent = "");
    const words = sides.map((one, at) => {
      const reading = one.read < one.need ? `, ${one.read} of ${one.need} messages read` : "";
      const done = count(Object.keys(one.right).length, "seed");
      return `${at ? "change" : "baseline"}: ${one.running ? `seed ${one.running}${reading}` : done}`;
    });
    $("now").textContent = `${busy ? "Training" : "At rest"} \u2013 ${words.join("; ")}.`;
  }

  // For a screen reader: a line when both sides have finished a seed.
  function said(seed) {
    if (!finished().includes(String(seed))) return;
    const { mean, low, high } = differences().at(-1);
    const range = `from ${signed(low)} to ${signed(high)}`;
    $("status").textContent = `${count(finished().length, "seed")} done. Difference ${signed(mean)} points, ${range}.`;
  }

  function csv() {
    const rows = [["side", "seed", "what", "messages", "epoch", "train", "validation", "test"]];
    sides.forEach((one, at) => {
      for (const seed of Object.keys(one.right)) {
        const start = [at ? "change" : "baseline", seed];
        for (const [examples, train, val] of one.notes[seed] ?? [])
          rows.push([...start, "loss", examples, "", train, val, ""]);
        for (const [epoch, train, val] of one.accuracies[seed] ?? [])
          rows.push([...start, "accuracy", "", epoch, train, val, ""]);
        rows.push([...start, "accuracy", "", "", "", "", one.test[seed]]);
      }
    });
    save("finetuned.csv", rows.map((row) => row.join(",")).join("\n") + "\n");
  }

  function file() {
    wrong("");
    try {
      const { classes, labels, texts } = own($("own").value);
      const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
      const lines = texts.map((text, i) => `${quoted(classes[labels[i]])},${quoted(text)}`);
      save("messages.csv", ["label,text", ...lines].join("\n") + "\n");
    } catch (error) {
      if (!(error instanceof Wrong)) throw error;
      wrong($("own").value.trim() ? error.message : "There are no messages of your own yet.");
    }
  }

  // -- the page ---------------------------------------------------------------------------------

  const FIELDS = [...Object.keys(NUMBERS), "change", "value", "seeds"];

  // The settings stand in the address, so that a link shows others the same.
  function write() {
    const change = $("change").value;
    const pairs = FIELDS.filter((name) => name !== "value" || change in NUMBERS).map((name) => [name, $(name).value]);
    history.replaceState(null, "", `#${new URLSearchParams(pairs)}`);
  }

  function read() {
    for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
      if (!FIELDS.includes(name)) continue;
      const field = $(name);
      const before = field.value;
      field.value = value;
      if (field.value === "" && name !== "value") field.value = before; // no such choice, no such number
    }
  }

  const title = (both) => both.forEach((name, at) => ($(`name-${at}`).textContent = name));

  function changed() {
    const change = $("change").value;
    const free = change in NUMBERS;
    $("other").hidden = !free;
    if (free) {
      $("other").firstElementChild.textContent = NUMBERS[change];
      for (const name of ["min", "max"]) $("value")[name] = $(change)[name];
    }
    $("value").required = free;
    if (!sides.length) title(names());
    try {
      const both = experiments();
      $("python").textContent = python(both);
      both.forEach((e, at) => ($(`command-${at}`).textContent = command(e)));
    } catch (error) {
      if (!(error instanceof Wrong)) throw error;
      $("python").textContent = error.message;
      for (const at of [0, 1]) $(`command-${at}`).textContent = "";
    }
  }

  function start() {
    const problem = (text) => Object.assign($("problem"), { textContent: text, hidden: false });
    if (typeof FINETUNE === "undefined")
      return problem("The model is not here: the command \u201cmake book\u201d makes it.");
    if (typeof Worker === "undefined")
      return problem("Training needs threads, which this browser does not have, or which are switched off.");
    if (typeof DecompressionStream === "undefined") return problem("Training needs a newer browser than this one.");
    tokenizer = new Tokenizer(FINETUNE.ranks);
    const group = (label, options) => element("optgroup", { label }, ...options);
    $("change").append(
      group(
        "a row of the table",
        Object.entries(FINETUNE.rows).map(([row, { title }]) => option(row, `${row} ${title}`)),
      ),
      group(
        "a number",
        Object.entries(NUMBERS).map(([name, words]) => option(name, words)),
      ),
    );
    $("change").value = "16";
    read();
    const form = document.getElementById("tune-form");
    form.noValidate = true; // what is wrong is said in the page's own words
    form.onsubmit = (event) => {
      event.preventDefault();
      train();
    };
    form.oninput = () => {
      const change = $("change").value;
      if (change in NUMBERS && $("value").value === "") $("value").value = $(change).value;
      changed();
      write();
    };
    addEventListener("hashchange", () => {
      read();
      changed();
    });
    $("stop").onclick = stop;
    $("csv").onclick = csv;
    $("file").onclick = file;
    new ResizeObserver(draw).observe($("curves-0"));
    document.getElementById("tune").hidden = false;
    changed();
  }

  start();
}
