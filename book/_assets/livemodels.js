// The models of the pages that read a message: loaded when they are asked for, and asked.
// The index (LIVE), the tokenizer and the model stand in scripts of their own, loaded before this one.

"use strict";

const LONGEST = 5000; // characters that are looked at: the tokenizer joins letters without a blank pair by pair

const folder = new URL("live/", document.currentScript.src);
const parts = {}; // promises of tensors, by the part's name
const trunks = {}; // shared by the models that do not change them
const models = {}; // by row

function fetched(name, file, use) {
  parts[name] ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL(file, folder);
    script.onload = () => use(PARTS[name]).then(resolve, reject).finally(() => delete PARTS[name]);
    script.onerror = () => reject(new Error(`${file} is not there`));
    document.head.append(script);
  });
  return parts[name];
}

const part = (name) => fetched(name, LIVE.parts[name].file, (text) => unpack(text, LIVE.parts[name].tensors));

async function load(variant) {
  if (variant === LIVE.counted) {
    models[variant.row] = new Counted(await fetched(variant.row, variant.file, async (known) => known));
    return;
  }
  const tensors = sum(await Promise.all(variant.parts.map(part)));
  const trunk = (trunks[[variant.trunk, variant.causal]] ??= new Trunk(tensors, LIVE.config, variant.causal));
  models[variant.row] = new Classifier(tensors, LIVE.config, variant, trunk);
}

// How likely a row thinks a message spam. A message is its text and its tokens, padding among them, of which `own`
// were written; `at` is a place to read instead of the row's.
const spam = (row, { text, tokens, own, at }) =>
  models[row] instanceof Counted ? models[row].spam(text) : models[row].spam(tokens, own, at);

// A text as a message of the training: cut to its length, and filled up.
function asTrained(tokenizer, text) {
  const { max_length: limit, end } = LIVE.config;
  const own = tokenizer.encode(text).slice(0, limit);
  return { text, tokens: [...own, ...Array(limit - own.length).fill(end)], own: own.length, at: null };
}
