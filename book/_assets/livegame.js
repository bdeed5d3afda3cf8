// Ten test messages: the reader against the models. Chance chooses them, anew for every game.

"use strict";

const GAME = (() => {
  const { element, count } = PAGE;
  const MANY = 10;
  const $ = (id) => document.getElementById(`game-${id}`);

  // `messages` are [label, text]; `answers(text)` gives each loaded row's probability of spam, by row.
  function start(messages, classes, answers) {
    let left = [];
    let right = {};

    const shuffled = () => {
      const list = [...messages];
      for (let i = list.length - 1; i > 0; i--) {
        const j = Math.floor(Math.random() * (i + 1));
        [list[i], list[j]] = [list[j], list[i]];
      }
      return list.slice(0, MANY);
    };

    function next() {
      const over = !left.length;
      $("text").hidden = over;
      for (const button of [$("0"), $("1")]) button.hidden = over;
      $("go").hidden = !over;
      if (over) return;
      $("text").textContent = left[0][1];
      $("number").textContent = `Message ${MANY + 1 - left.length} of ${MANY}`;
    }

    function guess(said) {
      const [label, text] = left.shift();
      const all = { you: said, ...Object.fromEntries(Object.entries(answers(text)).map(([row, spam]) => [row, +(spam > 0.5)])) };
      for (const [who, what] of Object.entries(all)) right[who] = (right[who] ?? 0) + (what === label);
      $("said").textContent = `That was ${classes[label]}: ${said === label ? "you were right" : "you were wrong"}.`;
      if (!left.length) result();
      next();
      (left.length ? $("0") : $("go")).focus();
    }

    function result() {
      $("number").textContent = `You had ${right.you} of ${MANY} right.`;
      const rows = Object.entries(right).sort((a, b) => b[1] - a[1]);
      const line = ([who, n]) => {
        const name = who === "you" ? element("b", { textContent: "you" }) : `row ${who}`;
        return element("tr", {}, element("th", { scope: "row" }, name), element("td", { textContent: n }));
      };
      $("result").replaceChildren(...rows.map(line));
      $("table").hidden = false;
      $("note").textContent = `Ten messages tell little: whoever is right nine times in ten has ${count(MANY, "message")} all right in a third of the games.`;
      $("go").textContent = "Ten others";
    }

    $("go").onclick = () => {
      [left, right] = [shuffled(), {}];
      for (const id of ["said", "note"]) $(id).textContent = "";
      $("table").hidden = true;
      next();
      $("0").focus();
    };
    for (const label of [0, 1]) $(label).onclick = () => guess(label);
  }

  return { start };
})();
