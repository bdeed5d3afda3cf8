// A whole run, as the package's `run` makes it: the frozen blocks once for each message, when it is first asked for;
// then, seed after seed, the steps of the schedule with a note of the losses every fifty, and the test's answers.

// -- what is frozen ------------------------------------------------------------------------------

// Every block but the last, over all tokens of a message at once. (model.js reads token by token instead.)
class Frozen {
  constructor(tensors, config, T, { disable_causal_mask, mask_padding }) {
    const { emb_dim: C, n_heads: H, n_layers: L } = config;
    const wide = Math.ceil(T / 4) * 4; // a product takes four columns together
    Object.assign(this, { C, H, D: C / H, wide, causal: !disable_causal_mask, masked: mask_padding });
    this.token = tensors["tok_emb.weight"];
    this.position = tensors["pos_emb.weight"];
    const kept = (name) => {
      const { weight, bias } = layer(tensors, name);
      const [W, b] = [floats(weight.length), floats(bias.length)];
      W.set(weight);
      b.set(bias);
      return { weight: W, bias: b };
    };
    const parts = ["norm1", "norm2", "attn.query", "attn.key", "attn.value", "attn.out", "mlp.up", "mlp.down"];
    this.blocks = Array.from({ length: L - 1 }, (_, i) =>
      Object.fromEntries(parts.map((part) => [part.split(".").at(-1), kept(`blocks.${i}.${part}`)])),
    );
    for (const name of ["x", "h", "q", "k", "v", "z"]) this[name] = floats(wide * C);
    this.inner = floats(wide * 4 * C);
    this.scores = floats(wide * wide);
  }

  // T vectors of C numbers, which the next call writes over. `first` and `end` bound the message's own tokens.
  run(tokens, first, end) {
    const { C, token, position, x, h, z, inner } = this, T = tokens.length;
    for (let t = 0; t < T; t++) {
      for (let c = 0; c < C; c++) x[t * C + c] = token[tokens[t] * C + c] + position[t * C + c];
    }
    for (const block of this.blocks) {
      norm(block.norm1, x, h, 0, T);
      this.attend(block, T, first, end);
      affine(block.out, z, h, T);
      add(h, x, 0, T * C);
      norm(block.norm2, x, h, 0, T);
      affine(block.up, h, inner, T);
      gelu(inner, 0, T * 4 * C);
      affine(block.down, inner, h, T);
      add(h, x, 0, T * C);
    }
    return x;
  }

  // From h to z, what every token gathers.
  attend({ query, key, value }, T, first, end) {
    const { C, H, D, wide, h, q, k, v, z, scores } = this;
    affine(query, h, q, T);
    affine(key, h, k, T);
    affine(value, h, v, T);
    for (let i = 0; i < T * C; i++) q[i] /= Math.sqrt(D);
    z.fill(0, 0, T * C);
    for (let head = 0; head < H; head++) {
      const part = (x) => matrix(x, C, head * D);
      scores.fill(0, 0, T * wide);
      product(part(q), turned(part(k)), matrix(scores, wide), T, D, Math.ceil(T / 4) * 4);
      for (let t = 0; t < T; t++) this.shares(scores.subarray(t * wide, (t + 1) * wide), t, T, first, end);
      product(matrix(scores, wide), part(v), part(z), T, T, D);
    }
  }

  // Scores to shares, of token t.
  shares(row, t, T, first, end) {
    const seen = this.causal ? t + 1 : T;
    if (this.masked) for (let s = 0; s < seen; s++) if (s !== t && (s < first || s >= end)) row[s] = -Infinity;
    softmax(row, seen);
    row.fill(0, seen);
  }
}

// -- messages ------------------------------------------------------------------------------------

// Which tokens of a message are needed, and which of them is read. `tokens` are its own, cut already.
function framed(tokens, { trainable_token_pos: pos, disable_causal_mask, padding_side, length, end }) {
  const fill = Array(length - tokens.length).fill(end);
  const left = padding_side === "left", first = left ? fill.length : 0;
  const all = left ? [...fill, ...tokens] : [...tokens, ...fill];
  const at = pos === "first" ? 0 : pos === "flexible" && !left ? tokens.length - 1 : length - 1;
  return { all: disable_causal_mask ? all : all.slice(0, at + 1), at, first, end: first + tokens.length };
}

// What a run needs of its messages, made when it is first asked for. `splits` has lists of { tokens, label }.
class Inputs {
  constructor(frozen, whole, config, setting, splits) {
    Object.assign(this, { frozen, whole, C: config.emb_dim, setting, splits, ready: 0 });
    this.made = Object.fromEntries(Object.entries(splits).map(([name, list]) => [name, Array(list.length)]));
  }

  has(split, i) {
    return this.made[split][i] !== undefined;
  }

  get(split, i) {
    return (this.made[split][i] ??= this.make(this.splits[split][i]));
  }

  make({ tokens, label }) {
    const { C, frozen, setting } = this;
    const { all, at, first, end } = framed(tokens, setting);
    const x = frozen.run(all, first, end);
    const seen = [...all.keys()].filter((t) => !setting.mask_padding || t === at || (t >= first && t < end));
    const [n, own] = [this.vectors(seen.length * C), seen.indexOf(at)];
    const message = { label, own, n, x: this.whole ? new Float32Array(C) : floats(C) };
    message.x.set(x.subarray(at * C, (at + 1) * C));
    seen.forEach((t, i) => standardise(x, t * C, message.n, i * C, C));
    this.ready++;
    if (!this.whole) return message;
    this.whole.forward([message]); // the last block and the final norm are frozen too
    return { label, features: this.whole.features.slice(0, C) };
  }

  // Room for a message's vectors: its own, or, where only features are kept, the same for every message.
  vectors(n) {
    if (!this.whole) return floats(n);
    this.shared ??= floats(this.setting.length * this.C);
    return this.shared.subarray(0, n);
  }
}

// Bytes that a run takes at most, for `reserve`.
function room(config, setting, splits) {
  const { emb_dim: C, n_layers: L, n_heads: H } = config, T = setting.length;
  const messages = [...splits.train, ...splits.val.slice(0, BATCH * EVAL_BATCHES), ...splits.test];
  const vectors = messages.reduce((sum, { tokens }) => {
    const { all, first, end } = framed(tokens, setting);
    return sum + 1 + (setting.mask_padding ? Math.min(all.length, end - first + 1) : all.length);
  }, 0);
  const weights = (L + 5) * 13 * C * C, work = T * (T + 12 * C) + 2 * BATCH * (C * 20 + H * (T + 4 * C));
  const kept = setting.trainable_layers === "last_layer" ? T : vectors; // of the others features remain
  return 4 * (kept * C + weights + work + 1e5);
}

// -- a run ---------------------------------------------------------------------------------------

const BATCH = 8; // messages of a batch

class Run {
  // `setting` has fields of the package's Experiment, and: `length`, to which messages are padded, `end`, the token
  // they are padded with, and `fast`, whether product.wat may be used.
  constructor(tensors, config, setting, splits) {
    Object.assign(this, { config, setting, splits });
    reserve(room(config, setting, splits), setting.fast);
    const frozen = new Frozen(tensors, config, setting.length, setting);
    const part = (kind, B) => new kind(tensors, config, B, setting.length);
    const head = setting.trainable_layers === "last_layer";
    const whole = head ? part(LastBlock, 1) : null;
    whole?.weights.restart(newHead(0, config.emb_dim, config.classes)); // its head is not used
    this.model = part(head ? Head : LastBlock, BATCH);
    this.optimizer = new AdamW(this.model.weights.all.length, setting);
    this.inputs = new Inputs(frozen, whole, config, setting, splits);
  }

  // What happens with one seed, event by event; between two of them the caller may do something else.
  *events(seed) {
    const { model, optimizer, setting, splits, config: { emb_dim: C, classes: K } } = this;
    model.weights.restart(newHead(seed, C, K));
    optimizer.restart();
    this.labels = withWrongLabels(splits.train.map(({ label }) => label), setting.label_noise, seed, K);
    for (const event of schedule(seed, setting.num_epochs, BATCH, splits.train.length, splits.val.length)) {
      if (event.kind === "step") {
        yield* this.prepare("train", event.batch);
        yield { kind: "step", loss: this.step(event.batch) };
        continue;
      }
      yield* this.prepare("train", event.train.flat());
      yield* this.prepare("val", event.val.flat());
      const [train, val] = [this.look("train", event.train), this.look("val", event.val)];
      yield { ...event, train, val };
    }
    const answers = [];
    for (let i = 0; i < splits.test.length; i += BATCH) {
      const batch = splits.test.slice(i, i + BATCH).map((_, j) => i + j);
      yield* this.prepare("test", batch);
      this.losses("test", batch);
      batch.forEach((_, b) => answers.push(Array.from(model.logits[b])));
    }
    yield { kind: "final", answers };
  }

  *prepare(split, index) {
    for (const i of index) {
      if (this.inputs.has(split, i)) continue;
      this.inputs.get(split, i);
      yield { kind: "read", ready: this.inputs.ready };
    }
  }

  losses(split, batch) {
    this.batch = batch.map((i) => {
      const message = this.inputs.get(split, i);
      return split === "train" ? { ...message, label: this.labels[i] } : message;
    });
    return this.model.losses(this.batch);
  }

  step(batch) {
    const losses = this.losses("train", batch);
    this.model.backward(this.batch);
    this.optimizer.step(this.model.weights.all, this.model.weights.allD);
    return average(losses);
  }

  // The mean of the batches' mean losses, and the share of right answers.
  look(split, batches) {
    let right = 0;
    const losses = batches.map((batch) => {
      const each = this.losses(split, batch);
      right += this.batch.filter(({ label }, b) => largest(this.model.logits[b]) === label).length;
      return average(each);
    });
    return { loss: average(losses), accuracy: right / batches.flat().length };
  }
}

const average = (numbers) => numbers.reduce((sum, x) => sum + x, 0) / numbers.length;

// The place of the largest number, the first of several.
const largest = (numbers) => numbers.indexOf(Math.max(...numbers));
