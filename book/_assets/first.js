// The first page's message box: three filters that read what the reader types. Nothing is loaded before they are asked.

"use strict";

{
  const here = new URL("./", document.currentScript.src);
  const SCRIPTS = ["page.js", "bpe.js", "model.js", "counted.js", "live/index.js", "livemodels.js"];
  const ROWS = {
    1: "the baseline, which reads the last position",
    16: "one change: reads the last real token",
    "0c": "no network: counts runs of letters",
  };
  const box = document.getElementById("first-box");
  box.innerHTML = `
    <section class="live" aria-labelledby="first-name">
      <label class="live-name" id="first-name" for="first-text">Is it spam? Three filters read what you type, here in your browser.</label>
      <textarea id="first-text" rows="2" spellcheck="false" autocomplete="off">Hey, are you free tonight? I won two tickets, claim yours before six</textarea>
      <div class="live-line"><button type="button" id="first-go">Ask them</button><span class="live-note" id="first-note"></span></div>
      <table class="live-answers" hidden><thead><tr><th scope="col">filter</th><th scope="col">how likely spam</th><th scope="col">test</th></tr></thead><tbody></tbody></table>
      <p class="visually-hidden" role="status"></p>
    </section>`;
  const [text, go, note] = ["text", "go", "note"].map((name) => document.getElementById(`first-${name}`));
  const [table, status] = [box.querySelector("table"), box.querySelector("[role=status]")];
  const bars = {};
  for (const [row, name] of Object.entries(ROWS)) {
    const line = table.tBodies[0].insertRow();
    line.innerHTML = '<th scope="row"></th><td><div class="live-answer"><div class="live-bar"><i></i></div><span></span></div></td><td></td>';
    line.firstChild.textContent = name;
    bars[row] = line.querySelector(".live-answer");
  }

  const script = (file) =>
    new Promise((resolve, reject) => {
      const made = Object.assign(document.createElement("script"), { src: new URL(file, here), onload: resolve });
      made.onerror = () => reject(new Error(`${file} is not there`));
      document.head.append(made);
    });

  let tokenizer; // a promise of it, with the models loaded
  async function loaded() {
    while (SCRIPTS.length) {
      await script(SCRIPTS[0]);
      SCRIPTS.shift(); // one that is there is not loaded again, whatever happens to the next
    }
    const wanted = [...LIVE.variants, LIVE.counted].filter(({ row }) => row in ROWS);
    const parts = new Set(wanted.flatMap(({ parts = [] }) => parts));
    const bytes = [...parts].reduce((sum, name) => sum + LIVE.parts[name].bytes, 0) + LIVE.counted.bytes;
    note.textContent = `The models are loaded, ${(bytes / 1e6).toFixed(1)} MB, once \u2026`;
    await Promise.all(wanted.map(load));
    for (const { row, test } of wanted) bars[row].parentElement.nextSibling.textContent = PAGE.percent(test);
    return new Tokenizer(LIVE.ranks);
  }

  async function ask() {
    go.disabled = true;
    try {
      const words = await (tokenizer ??= loaded());
      const message = asTrained(words, text.value.slice(0, LONGEST));
      for (const row of Object.keys(ROWS)) {
        const share = text.value.trim() ? spam(row, message) : null;
        bars[row].querySelector("i").style.width = `${100 * (share ?? 0)}%`;
        bars[row].lastChild.textContent = share === null ? "\u2013" : PAGE.percent(share);
      }
      table.hidden = false;
      go.hidden = true;
      note.innerHTML =
        'What you type is sent nowhere. Under <em>test</em>: how many of the pocket test messages each has right. ' +
        '<a href="live.html">More models, and a look inside</a>';
      status.textContent = Object.keys(ROWS).map((row) => `${ROWS[row]}: ${bars[row].lastChild.textContent}`).join("; ");
    } catch (error) {
      tokenizer = undefined;
      note.textContent = `The models could not be loaded: ${error.message}`;
    }
    go.disabled = false;
  }

  let typing;
  go.onclick = ask;
  text.oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(ask, 150);
  };
}
