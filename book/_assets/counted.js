// What counting alone can do: row 0c, a logistic regression on runs of two to five characters of a word. It is
// scikit-learn's TfidfVectorizer and LogisticRegression once more: a message's score is the sum of its words', so
// every word can be shown in the colour of what it adds.

"use strict";

class Counted {
  // `runs` are the counted runs of characters, `rarity` their inverse document frequencies, `weight` what
  // logistic regression makes of them, `bias` what it starts from.
  constructor({ runs, rarity, weight, bias }) {
    this.bias = bias;
    this.known = new Map(runs.map((run, i) => [run, [rarity[i], weight[i]]]));
  }

  // The runs of a word, blanks at its ends included; one that is as long as the word is counted once.
  *runs(word) {
    const letters = Array.from(` ${word} `);
    for (let n = 2; n <= 5; n++) {
      for (let i = 0; i === 0 || i + n <= letters.length; i++) yield letters.slice(i, i + n).join("");
      if (n >= letters.length) return;
    }
  }

  // Each word of a text and what it adds to the score: above zero towards spam, below it towards ham.
  words(text) {
    let squares = 0;
    const counts = new Map();
    const words = text.split(/\s+/u).filter(Boolean);
    const found = words.map((word) => [...this.runs(word.toLowerCase())].filter((run) => this.known.has(run)));
    for (const run of found.flat()) counts.set(run, (counts.get(run) ?? 0) + 1);
    for (const [run, n] of counts) squares += (n * this.known.get(run)[0]) ** 2;
    const length = Math.sqrt(squares) || 1; // messages of any length weigh the same
    const adds = (run) => (this.known.get(run)[0] * this.known.get(run)[1]) / length;
    return words.map((word, i) => ({ word, adds: found[i].reduce((sum, run) => sum + adds(run), 0) }));
  }

  spam(text) {
    const score = this.words(text).reduce((sum, { adds }) => sum + adds, this.bias);
    return 1 / (1 + Math.exp(-score));
  }
}
