// The model: a GPT-2 of a few blocks that reads a message and says how likely it is spam.
//
// It is src/onechange/gpt/model.py once more, in plain JavaScript. The letters are the same:
//
//   T  tokens of a message, padding included        H  heads
//   C  channels, the width of the model             D  the size of a head, C / H
//
// T vectors of C numbers are one array, vector after vector: number c of vector t is x[t * C + c]. The
// arrays hold 64-bit numbers, because JavaScript computes with no others: nothing has to be converted.

// -- arithmetic --------------------------------------------------------------------------------

// y = W x + b for the vectors from `from` up to `to`. As in PyTorch, W has a row for each output.
// Nearly all the time goes here. Two vectors and four rows are taken together, so that a number,
// once fetched, is used more than once.
function linear({ weight: W, bias: b }, x, y, from, to) {
  const O = b.length; // outputs of a vector: a multiple of four
  const I = W.length / O; // inputs
  for (let o = 0; o < O; o += 4) {
    const w0 = o * I, w1 = w0 + I, w2 = w1 + I, w3 = w2 + I;
    for (let t = from; t < to; t += 2) {
      const s = Math.min(t + 1, to - 1); // the other vector; an odd last one is its own
      const u = t * I, v = s * I;
      let u0 = b[o], u1 = b[o + 1], u2 = b[o + 2], u3 = b[o + 3];
      let v0 = u0, v1 = u1, v2 = u2, v3 = u3;
      for (let i = 0; i < I; i++) {
        const a = x[u + i], c = x[v + i];
        const W0 = W[w0 + i], W1 = W[w1 + i], W2 = W[w2 + i], W3 = W[w3 + i];
        u0 += W0 * a; u1 += W1 * a; u2 += W2 * a; u3 += W3 * a;
        v0 += W0 * c; v1 += W1 * c; v2 += W2 * c; v3 += W3 * c;
      }
      const p = t * O + o, q = s * O + o;
      y[p] = u0; y[p + 1] = u1; y[p + 2] = u2; y[p + 3] = u3;
      y[q] = v0; y[q + 1] = v1; y[q + 2] = v2; y[q + 3] = v3;
    }
  }
}

// Layer normalisation: each vector to mean 0 and variance 1, then scaled and shifted by channel.
function norm({ weight, bias }, x, y, from, to) {
  const C = bias.length;
  for (let r = from * C; r < to * C; r += C) {
    let mean = 0, variance = 0;
    for (let c = 0; c < C; c++) mean += x[r + c] / C;
    for (let c = 0; c < C; c++) variance += (x[r + c] - mean) ** 2 / C;
    const scale = 1 / Math.sqrt(variance + 1e-5);
    for (let c = 0; c < C; c++) y[r + c] = (x[r + c] - mean) * scale * weight[c] + bias[c];
  }
}

// GELU by its tanh approximation, in place: x (1 + tanh u) / 2, and (1 + tanh u) / 2 is 1 / (1 + exp(-2u)).
function gelu(x, from, to) {
  for (let i = from; i < to; i++) {
    const u = Math.sqrt(2 / Math.PI) * (x[i] + 0.044715 * x[i] * x[i] * x[i]);
    x[i] /= 1 + Math.exp(-2 * u);
  }
}

// The first n numbers of x as shares that sum to 1, in place.
function softmax(x, n) {
  let max = -Infinity, sum = 0;
  for (let i = 0; i < n; i++) max = Math.max(max, x[i]);
  for (let i = 0; i < n; i++) sum += x[i] = Math.exp(x[i] - max);
  for (let i = 0; i < n; i++) x[i] /= sum;
}

function add(x, y, from, to) {
  for (let i = from; i < to; i++) y[i] += x[i];
}

// -- the network -------------------------------------------------------------------------------

// A layer's weight and bias, from all of a model's tensors by their names in PyTorch.
const layer = (tensors, name) => ({ weight: tensors[`${name}.weight`], bias: tensors[`${name}.bias`] });

// How many leading tokens are the ones that were read last time. Where every token sees every
// other, one that is new changes them all.
function unchanged(before, tokens, causal) {
  let n = 0;
  while (n < tokens.length && tokens[n] === before[n]) n++;
  return causal || (n === tokens.length && n === before.length) ? n : 0;
}

// A transformer block. It remembers what it made of each token, and makes only what is new: behind
// a causal mask nothing that comes later can change what came before.
class Block {
  constructor(tensors, name, config, causal) {
    this.causal = causal;
    for (const part of ["norm1", "norm2"]) this[part] = layer(tensors, `${name}.${part}`);
    for (const part of ["query", "key", "value", "out"]) this[part] = layer(tensors, `${name}.attn.${part}`);
    for (const part of ["up", "down"]) this[part] = layer(tensors, `${name}.mlp.${part}`);
    const { context_length: T, emb_dim: C, n_heads: H } = config;
    Object.assign(this, { C, H, D: C / H, tokens: [] });
    for (const row of ["h", "q", "k", "v", "z", "y"]) this[row] = new Float64Array(T * C);
    this.inner = new Float64Array(T * 4 * C);
    this.scores = new Float64Array(T);
  }

  // What comes out for every token, or for the one at position `at` alone. `x` comes in, a vector
  // for each of `tokens`; keys and values are needed of them all.
  read(x, tokens, at = null) {
    const { C, h, q, k, v, z, y, inner } = this;
    const T = tokens.length, known = unchanged(this.tokens, tokens, this.causal);
    norm(this.norm1, x, h, known, T);
    linear(this.key, h, k, known, T);
    linear(this.value, h, v, known, T);
    if (known < T) this.tokens = tokens;

    const [from, to] = at === null ? [known, T] : [at, at + 1];
    linear(this.query, h, q, from, to);
    for (let t = from; t < to; t++) this.gather(t, T);
    linear(this.out, z, y, from, to);
    add(x, y, from * C, to * C);

    norm(this.norm2, y, z, from, to);
    linear(this.up, z, inner, from, to);
    gelu(inner, from * 4 * C, to * 4 * C);
    linear(this.down, inner, z, from, to);
    add(z, y, from * C, to * C);
    return y;
  }

  // How much token t takes from each token it may see, by one head:
  // softmax(q . k / sqrt(D)).
  attention(t, T, head) {
    const { C, D, q, k, scores } = this;
    const seen = this.causal ? t + 1 : T;
    const first = head * D, end = first + D; // its channels
    for (let s = 0; s < seen; s++) {
      let dot = 0;
      for (let c = first; c < end; c++) dot += q[t * C + c] * k[s * C + c];
      scores[s] = dot / Math.sqrt(D);
    }
    softmax(scores, seen);
    return scores.subarray(0, seen);
  }

  // What it takes: each head's values, mixed in these shares, go to z.
  gather(t, T) {
    const { C, H, D, v, z } = this;
    z.fill(0, t * C, (t + 1) * C);
    for (let head = 0; head < H; head++) {
      const shares = this.attention(t, T, head);
      for (let s = 0; s < shares.length; s++) {
        for (let i = head * D; i < (head + 1) * D; i++) z[t * C + i] += shares[s] * v[s * C + i];
      }
    }
  }
}

// The embeddings and every block but the last: what models that train no deeper have in common.
class Trunk {
  constructor(tensors, config, causal) {
    this.config = config;
    this.token = tensors["tok_emb.weight"];
    this.position = tensors["pos_emb.weight"];
    this.x = new Float64Array(config.context_length * config.emb_dim);
    this.blocks = [];
    for (let i = 0; i < config.n_layers - 1; i++) this.blocks.push(new Block(tensors, `blocks.${i}`, config, causal));
  }

  read(tokens) {
    const C = this.config.emb_dim;
    for (let t = 0; t < tokens.length; t++) {
      for (let c = 0; c < C; c++) this.x[t * C + c] = this.token[tokens[t] * C + c] + this.position[t * C + c];
    }
    return this.blocks.reduce((x, block) => block.read(x, tokens), this.x);
  }
}

// A trunk, a last block, a final norm and a head with an output for ham and one for spam.
class Classifier {
  // `reads` names the token whose output is classified: first, last, or flexible, the last of the
  // message's own.
  constructor(tensors, config, { causal, reads }, trunk) {
    Object.assign(this, { causal, reads, trunk });
    this.last = new Block(tensors, `blocks.${config.n_layers - 1}`, config, causal);
    this.finalNorm = layer(tensors, "final_norm");
    this.head = layer(tensors, "head");
    this.features = new Float64Array(config.emb_dim);
  }

  // The position that is read, of a message of `own` tokens that padding makes `T` long.
  position(own, T) {
    return { first: 0, last: T - 1, flexible: own - 1 }[this.reads];
  }

  // The probability that a message is spam: `own` tokens, then padding. Read at the row's own position,
  // unless another is asked for.
  spam(tokens, own, asked = null) {
    const at = asked ?? this.position(own, tokens.length);
    const seen = this.causal ? tokens.slice(0, at + 1) : tokens; // what lies behind cannot be seen
    const C = this.features.length;
    const y = this.last.read(this.trunk.read(seen), seen, at);
    norm(this.finalNorm, y.subarray(at * C, (at + 1) * C), this.features, 0, 1);
    const [ham, spam] = Array.from(this.head.bias, (bias, k) =>
      this.features.reduce((sum, feature, c) => sum + feature * this.head.weight[k * C + c], bias),
    );
    return 1 / (1 + Math.exp(ham - spam)); // the softmax of two
  }

  // What the token read takes from each token in block `block`, by one head or by the mean of them
  // all (head null). Of the message that was read last.
  looks(block, head, own, T, asked = null) {
    const at = asked ?? this.position(own, T), shares = new Float64Array(T);
    const { [block]: chosen = this.last } = this.trunk.blocks;
    const heads = head === null ? [...Array(chosen.H).keys()] : [head];
    for (const one of heads) {
      chosen.attention(at, T, one).forEach((share, s) => (shares[s] += share / heads.length));
    }
    return shares;
  }
}

// -- the weights -------------------------------------------------------------------------------

// The weights come as text, since a page that is read from the disk may load scripts and nothing
// else: fp16 numbers, the low bytes of all of them, then the high ones, which are much alike;
// compressed; and written seven bits a character. `shapes` lists the tensors in order.
async function unpack(text, shapes) {
  const packed = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const halves = new Uint8Array(await new Response(packed).arrayBuffer());
  const n = halves.length / 2, numbers = new Float32Array(n), bits = new Uint32Array(numbers.buffer);
  for (let i = 0; i < n; i++) {
    const half = halves[i] | (halves[n + i] << 8);
    bits[i] = ((half & 0x8000) << 16) | ((half & 0x7fff) << 13); // the sign; exponent and fraction
    numbers[i] *= 2 ** 112; // a half counts its exponents from -15, a float from -127
  }
  let start = 0;
  return Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => {
      const size = shape.reduce((product, length) => product * length);
      return [name, Float64Array.from(numbers.subarray(start, (start += size)))];
    }),
  );
}

// Eight characters carry seven bytes. A few characters may not stand in a script: theirs is the
// one 128 further on.
function bytes(text) {
  const out = new Uint8Array(Math.floor((text.length * 7) / 8));
  let held = 0, waiting = 0;
  for (let i = 0, n = 0; i < text.length; i++) {
    held = (held << 7) | (text.charCodeAt(i) & 127);
    waiting += 7;
    if (waiting >= 8) out[n++] = held >> (waiting -= 8); // a byte keeps the lowest eight bits
  }
  return out;
}

// A model is the sum of its parts: what was pretrained, and what finetuning changed.
function sum(parts) {
  const total = {};
  for (const part of parts) {
    for (const [name, tensor] of Object.entries(part)) {
      total[name] = name in total ? tensor.map((change, i) => total[name][i] + change) : tensor;
    }
  }
  return total;
}
