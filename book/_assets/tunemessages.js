// The messages of the page "Run it yourself": the pocket ones, or a reader's own, checked and split. What cannot be
// used is answered in words, as a Wrong.

"use strict";

class Wrong extends Error {}

const OWN = { lines: 2000, classes: 10, least: 10 }; // of a reader's own messages
const END = "<|endoftext|>";
const { count } = PAGE;

// The reader's own, a line each: labels by their number, texts, and the classes' names.
function own(written) {
  const lines = written.replace(/\s+$/, "").split(/\r?\n/);
  if (lines.length > OWN.lines) {
    const most = `at most ${OWN.lines.toLocaleString("en")}`;
    throw new Wrong(`There are ${count(lines.length, "line")}: this page takes ${most}, the package any number.`);
  }
  const pairs = lines.map((line, i) => {
    const comma = line.indexOf(",");
    if (!line.trim()) throw new Wrong(`Line ${i + 1} is empty.`);
    if (comma < 0) throw new Wrong(`Line ${i + 1} has no comma between a label and a text.`);
    const pair = [line.slice(0, comma).trim(), line.slice(comma + 1).trim()];
    if (!pair[0]) throw new Wrong(`Line ${i + 1} has no label.`);
    if (!pair[1]) throw new Wrong(`Line ${i + 1} has no text.`);
    if (pair[1].includes(END)) throw new Wrong(`Line ${i + 1} contains ${END}, which marks the end of a text.`);
    return pair;
  });
  const classes = [...new Set(pairs.map(([label]) => label))].sort();
  const sizes = classes.map((name) => pairs.filter(([label]) => label === name).length);
  if (classes.length < 2) throw new Wrong(`There is one class (${classes[0]}): at least two are needed.`);
  const many = `There are ${classes.length} classes`;
  if (classes.length > OWN.classes) throw new Wrong(`${many}: this page takes at most ${OWN.classes}.`);
  const few = sizes.findIndex((size) => size < OWN.least);
  const rare = `The class ${classes[few]} has ${count(sizes[few] ?? 0, "message")}`;
  if (few >= 0) throw new Wrong(`${rare}: at least ${OWN.least} of each are needed.`);
  return { classes, labels: pairs.map(([label]) => classes.indexOf(label)), texts: pairs.map(([, text]) => text) };
}

// The splits as numbers, each text cut to the longest training message. Of the first `size` training messages.
function splits(written, size, seed, tokenizer) {
  const numbers = (labels, texts) => texts.map((text, i) => ({ tokens: tokenizer.encode(text), label: labels[i] }));
  let [parts, classes] = [{}, FINETUNE.classes.length];
  if (written.trim()) {
    const given = own(written);
    const all = numbers(given.labels, given.texts);
    classes = given.classes.length;
    const places = split(given.labels, classes, seed);
    for (const [name, list] of Object.entries(places)) parts[name] = list.map((i) => all[i]);
  } else {
    for (const [name, [labels, texts]] of Object.entries(FINETUNE.messages)) parts[name] = numbers(labels, texts);
  }
  const there = count(parts.train.length, "training message");
  const asked = size.toLocaleString("en");
  if (size > parts.train.length) throw new Wrong(`There are ${there}, not ${asked}: ask for fewer.`);
  parts.train = parts.train.slice(0, size);
  const length = Math.max(...parts.train.map(({ tokens }) => tokens.length));
  const most = FINETUNE.config.context_length, long = `The longest message has ${count(length, "token")}`;
  if (length > most) throw new Wrong(`${long}: this page takes at most ${most}.`);
  for (const message of Object.values(parts).flat()) message.tokens = message.tokens.slice(0, length);
  return { parts, classes, length };
}
