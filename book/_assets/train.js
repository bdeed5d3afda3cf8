// Training: how the loss changes with every weight, and the step that makes it smaller.
//
// It is what PyTorch does behind `loss.backward()` and `optimizer.step()`, in plain JavaScript. For each function of
// the forward pass stands the one of the backward pass, which is given how the loss changes with what came out, and
// says how it changes with what went in and with the weights. Such a derivative has the name of its quantity with a
// d before it: `dy` is dL/dy. Derivatives are added to what is there, since a quantity may be used more than once.
//
// The letters are those of model.js, whose norm, gelu and softmax are used; B is the number of messages of a batch.

// -- a linear layer ------------------------------------------------------------------------------

// y = W x + b for n vectors.
function affine({ weight, bias }, x, y, n) {
  const O = bias.length, I = weight.length / O;
  for (let t = 0; t < n; t++) y.set(bias, t * O);
  product(matrix(x, I), turned(matrix(weight, I)), matrix(y, O), n, I, O);
}

// dx = W' dy,  dW = dy x',  db = dy, the last two summed over the vectors.
function affineBack({ weight, bias }, d, x, dy, dx, n) {
  const O = bias.length, I = weight.length / O;
  product(matrix(dy, O), matrix(weight, I), matrix(dx, I), n, O, I);
  product(turned(matrix(dy, O)), matrix(x, I), matrix(d.weight, I), O, n, I);
  for (let i = 0; i < n * O; i++) d.bias[i % O] += dy[i];
}

// -- layer normalisation -------------------------------------------------------------------------

// A vector at `at` to mean 0 and variance 1; returns what it was multiplied by.
function standardise(x, at, y, to, C) {
  let mean = 0, variance = 0;
  for (let c = 0; c < C; c++) mean += x[at + c];
  mean /= C;
  for (let c = 0; c < C; c++) variance += (x[at + c] - mean) ** 2;
  const scale = 1 / Math.sqrt(variance / C + 1e-5);
  for (let c = 0; c < C; c++) y[to + c] = (x[at + c] - mean) * scale;
  return scale;
}

// y = g n + h with n = (x - mean) / sd. dg = dy n,  dh = dy, and, since mean and sd are made of x too,
// dx = (dn - mean(dn) - n mean(dn n)) / sd with dn = g dy.
function normBack({ weight: g }, d, x, dy, dx, vectors) {
  const C = g.length, n = new Float64Array(C);
  for (let at = 0; at < vectors * C; at += C) {
    const scale = standardise(x, at, n, 0, C); // 1 / sd
    let mean = 0, along = 0;
    for (let c = 0; c < C; c++) {
      const dn = g[c] * dy[at + c];
      d.weight[c] += dy[at + c] * n[c];
      d.bias[c] += dy[at + c];
      mean += dn / C;
      along += (dn * n[c]) / C;
    }
    for (let c = 0; c < C; c++) dx[at + c] += (g[c] * dy[at + c] - mean - n[c] * along) * scale;
  }
}

// -- GELU, softmax and the loss ------------------------------------------------------------------

// y = x s with s = 1 / (1 + exp(-2u)) and u = sqrt(2 / pi) (x + 0.044715 x^3); so dx = (s + x 2 s (1 - s) u') dy.
function geluBack(x, dy, dx, n) {
  const root = Math.sqrt(2 / Math.PI);
  for (let i = 0; i < n; i++) {
    const square = x[i] * x[i];
    const s = 1 / (1 + Math.exp(-2 * root * x[i] * (1 + 0.044715 * square)));
    dx[i] += (s + 2 * x[i] * s * (1 - s) * root * (1 + 3 * 0.044715 * square)) * dy[i];
  }
}

// a = softmax(s): ds = a (da - sum(a da)). Of `n` numbers, `row` apart from one another.
function softmaxBack(a, da, ds, first, row, n) {
  let mean = 0;
  for (let i = 0; i < n; i++) mean += a[first + i * row] * da[first + i * row];
  for (let i = 0; i < n; i++) ds[first + i * row] = a[first + i * row] * (da[first + i * row] - mean);
}

// The cross-entropy of one message: -log p[label], where p is the softmax of the K logits. It puts p in the place
// of the logits, and dlogits = (p - 1 at the label) share, where `share` is the message's in the mean of the batch.
function crossEntropy(logits, dlogits, label, share) {
  softmax(logits, logits.length);
  for (let k = 0; k < logits.length; k++) dlogits[k] = (logits[k] - (k === label ? 1 : 0)) * share;
  return -Math.log(Math.max(logits[label], 1e-38));
}

// -- the step ------------------------------------------------------------------------------------

// AdamW (Loshchilov and Hutter, 2019): the weights decay, and move
// against a running mean of their derivatives, m, divided by the root
// of a running mean of their squares, v.
class AdamW {
  constructor(n, { learning_rate: rate, weight_decay: decay }) {
    Object.assign(this, { rate, decay, t: 0, m: floats(n), v: floats(n) });
  }

  restart() {
    this.t = 0;
    this.m.fill(0);
    this.v.fill(0);
  }

  step(weights, d) {
    const { m, v, rate, decay } = this, t = ++this.t;
    const root = Math.sqrt(1 - 0.999 ** t); // both means start at 0:
    const size = (rate * root) / (1 - 0.9 ** t); // this makes up for it
    for (let i = 0; i < weights.length; i++) {
      m[i] += 0.1 * (d[i] - m[i]);
      v[i] = 0.999 * v[i] + 0.001 * d[i] * d[i];
      const move = (size * m[i]) / (Math.sqrt(v[i]) + 1e-8 * root);
      weights[i] -= rate * decay * weights[i] + move;
    }
  }
}

// -- what is trained -----------------------------------------------------------------------------

// The tensors of some layers, end to end in one array: `values` by layer, and their derivatives `d`.
class Weights {
  constructor(tensors, layers) {
    const parts = Object.entries(layers).flatMap(([layer, name]) =>
      ["weight", "bias"].map((part) => ({ layer, part, start: tensors[`${name}.${part}`] })),
    );
    const n = parts.reduce((sum, { start }) => sum + start.length, 0);
    Object.assign(this, { parts, all: floats(n), allD: floats(n), d: {} });
    let at = 0;
    for (const { layer, part, start } of parts) {
      for (const [owner, array] of [[this, this.all], [this.d, this.allD]]) {
        (owner[layer] ??= {})[part] = array.subarray(at, at + start.length);
      }
      at += start.length;
    }
  }

  // Back to where training starts; the head is new.
  restart(head) {
    for (const { layer, part, start } of this.parts) this[layer][part].set(layer === "head" ? head[part] : start);
  }
}

// The new output layer alone, from C features of each message to K logits. `message.features` is constant.
class Head {
  constructor(tensors, config, B) {
    const { emb_dim: C, classes: K } = config;
    tensors = { ...tensors, "head.weight": new Float32Array(K * C), "head.bias": new Float32Array(K) };
    this.weights = new Weights(tensors, this.layers(config));
    Object.assign(this, { C, K, B, features: floats(B * C), dfeatures: floats(B * C) });
    this.logits = Array.from({ length: B }, () => new Float64Array(K));
    this.dlogits = Array.from({ length: B }, () => new Float64Array(K));
  }

  layers() {
    return { head: "head" };
  }

  forward(messages) {
    messages.forEach(({ features }, b) => this.features.set(features, b * this.C));
    this.classify(messages.length);
  }

  classify(B) {
    const { C, K, features, logits, weights: { head } } = this;
    for (let b = 0; b < B; b++) {
      for (let k = 0; k < K; k++) {
        let sum = head.bias[k];
        for (let c = 0; c < C; c++) sum += head.weight[k * C + c] * features[b * C + c];
        logits[b][k] = sum;
      }
    }
  }

  // Each message's loss; the logits become probabilities.
  losses(messages) {
    this.forward(messages);
    return messages.map(({ label }, b) => crossEntropy(this.logits[b], this.dlogits[b], label, 1 / messages.length));
  }

  // The derivatives of the batch's mean loss, behind `losses`.
  backward(messages) {
    const { C, K, features, dfeatures, dlogits, weights: { head, d } } = this;
    this.weights.allD.fill(0);
    dfeatures.fill(0);
    for (let b = 0; b < messages.length; b++) {
      for (let k = 0; k < K; k++) {
        const dy = dlogits[b][k];
        d.head.bias[k] += dy;
        for (let c = 0; c < C; c++) {
          d.head.weight[k * C + c] += dy * features[b * C + c];
          dfeatures[b * C + c] += dy * head.weight[k * C + c];
        }
      }
    }
  }
}

// The last block, the final norm and the head, of which one position of each message is read. What goes in is a
// constant of the message: `message.x`, the vector at that position, and `message.n`, the vectors that it may see,
// standardised, of which it is number `message.own` itself.
//
// Only one token asks, so no other needs a key or a value of its own. With norm1 as g n + h,
//
//   score   q . (Wk (g n + h) + bk)        =  (g Wk'q) . n + what is the same for every token
//   output  sum of a (Wv (g n + h) + bv)   =  Wv (g (sum of a n) + h) + bv,   since the shares a sum to 1
//
// and a softmax does not see what is the same for all: with u = g Wk'q, the scores are u . n. (`few` in model.py.)
class LastBlock extends Head {
  constructor(tensors, config, B, T) {
    super(tensors, config, B);
    const { n_heads: H } = config, { C } = this;
    Object.assign(this, { H, D: C / H, a: Array.from({ length: B }, () => floats(T * H)) });
    [this.da, this.dscores] = [floats(T * H), floats(T * H)];
    for (const name of ["x1", "q", "y", "r", "m", "s"]) [this[name], this[`d${name}`]] = [floats(B * C), floats(B * C)];
    for (const name of ["p", "e"]) [this[name], this[`d${name}`]] = [floats(B * 4 * C), floats(B * 4 * C)];
    for (const name of ["c", "u", "z", "w"]) [this[name], this[`d${name}`]] = [floats(B * H * C), floats(B * H * C)];
  }

  layers({ n_layers: L }) {
    const last = `blocks.${L - 1}`;
    const attention = Object.fromEntries(["query", "key", "value", "out"].map((name) => [name, `${last}.attn.${name}`]));
    const mlp = { norm2: `${last}.norm2`, up: `${last}.mlp.up`, down: `${last}.mlp.down` };
    return { norm1: `${last}.norm1`, ...attention, ...mlp, finalNorm: "final_norm", ...super.layers() };
  }

  forward(messages) {
    const { C, q, y, r, m, p, e, s, x1, features } = this, W = this.weights;
    const B = messages.length, { weight: g, bias: h } = W.norm1;
    messages.forEach(({ n, own }, b) => {
      for (let c = 0; c < C; c++) x1[b * C + c] = g[c] * n[own * C + c] + h[c];
    });
    affine(W.query, x1, q, B);
    this.attend(messages);
    affine(W.out, y, r, B); // (B, C)
    messages.forEach(({ x }, b) => {
      for (let c = 0; c < C; c++) r[b * C + c] += x[c];
    });

    norm(W.norm2, r, m, 0, B);
    affine(W.up, m, p, B); // (B, 4 C)
    e.set(p);
    gelu(e, 0, B * 4 * C);
    affine(W.down, e, s, B); // (B, C)
    add(r, s, 0, B * C);
    norm(W.finalNorm, s, features, 0, B);
    this.classify(B);
  }

  // One head's part of a matrix with a vector of all heads, and of a weight with a row for each of their channels.
  part(x, head, size, row) {
    return matrix(x, row, head * size);
  }

  // From queries q (B, C) to what they gather, y (B, C).
  attend(messages) {
    const { C, H, D, q, c, u, a, z, w, y } = this, { norm1, key, value } = this.weights;
    const B = messages.length, { weight: g, bias: h } = norm1;
    for (let i = 0; i < B * C; i++) q[i] /= Math.sqrt(D);
    c.fill(0);
    for (let head = 0; head < H; head++) {
      product(this.part(q, head, D, C), this.part(key.weight, head, D * C, C), this.part(c, head, C, H * C), B, D, C);
    }
    for (let i = 0; i < B * H * C; i++) u[i] = g[i % C] * c[i]; // (B, H, C)
    z.fill(0);
    messages.forEach(({ n }, b) => {
      const T = n.length / C, mine = b * H * C;
      a[b].fill(0);
      product(matrix(n, C), turned(matrix(u, C, mine)), matrix(a[b], H), T, C, H); // scores (T, H)
      this.shares(a[b], T);
      product(turned(matrix(a[b], H)), matrix(n, C), matrix(z, C, mine), H, T, C); // (H, C)
    });
    for (let i = 0; i < B * H * C; i++) w[i] = g[i % C] * z[i] + h[i % C];
    for (let b = 0; b < B; b++) y.set(value.bias, b * C);
    for (let head = 0; head < H; head++) {
      const W = turned(this.part(value.weight, head, D * C, C));
      product(this.part(w, head, C, H * C), W, this.part(y, head, D, C), B, C, D);
    }
  }

  // Softmax over tokens, of each head: (T, H).
  shares(a, T) {
    const { H } = this, one = (this.column ??= new Float64Array(a.length / H));
    for (let head = 0; head < H; head++) {
      for (let t = 0; t < T; t++) one[t] = a[t * H + head];
      softmax(one, T);
      for (let t = 0; t < T; t++) a[t * H + head] = one[t];
    }
  }

  // All of `forward`, from its last line to its first.
  backward(messages) {
    super.backward(messages);
    const { C, x1, dx1, r, dr, s, ds, m, dm, p, dp, e, de, y, dy, dq, weights: W } = this;
    const B = messages.length, { d } = W;
    for (const empty of [dx1, dq, ds, dm, dp, de, dy]) empty.fill(0);
    normBack(W.finalNorm, d.finalNorm, s, this.dfeatures, ds, B);
    affineBack(W.down, d.down, e, ds, de, B);
    geluBack(p, de, dp, B * 4 * C);
    affineBack(W.up, d.up, m, dp, dm, B);
    dr.set(ds); // s = r + what the MLP made of r
    normBack(W.norm2, d.norm2, r, dm, dr, B);
    affineBack(W.out, d.out, y, dr, dy, B);
    this.attendBack(messages);
    affineBack(W.query, d.query, x1, dq, dx1, B);
    messages.forEach(({ n, own }, b) => {
      for (let c = 0; c < C; c++) {
        d.norm1.weight[c] += dx1[b * C + c] * n[own * C + c];
        d.norm1.bias[c] += dx1[b * C + c];
      }
    });
  }

  // From dy (B, C) to dq (B, C), with the derivatives of key, value and norm1 on the way.
  attendBack(messages) {
    const { C, H, D, q, dq, c, dc, du, a, da, dscores, z, dz, w, dw, dy, weights: { norm1, key, value, d } } = this;
    const B = messages.length, g = norm1.weight;
    for (const empty of [dw, du]) empty.fill(0);
    for (let head = 0; head < H; head++) {
      const [from, to] = [this.part(dy, head, D, C), this.part(dw, head, C, H * C)];
      product(from, this.part(value.weight, head, D * C, C), to, B, D, C);
      product(turned(from), this.part(w, head, C, H * C), this.part(d.value.weight, head, D * C, C), D, B, C);
    }
    for (let i = 0; i < B * C; i++) d.value.bias[i % C] += dy[i];
    for (let i = 0; i < B * H * C; i++) {
      d.norm1.weight[i % C] += dw[i] * z[i];
      d.norm1.bias[i % C] += dw[i];
      dz[i] = g[i % C] * dw[i];
    }
    messages.forEach(({ n }, b) => {
      const T = n.length / C, mine = b * H * C;
      da.fill(0, 0, T * H);
      product(matrix(n, C), turned(matrix(dz, C, mine)), matrix(da, H), T, C, H);
      for (let head = 0; head < H; head++) softmaxBack(a[b], da, dscores, head, H, T);
      product(turned(matrix(dscores, H)), matrix(n, C), matrix(du, C, mine), H, T, C);
    });
    for (let i = 0; i < B * H * C; i++) {
      d.norm1.weight[i % C] += du[i] * c[i];
      dc[i] = g[i % C] * du[i];
    }
    for (let head = 0; head < H; head++) {
      const [from, to] = [this.part(dc, head, C, H * C), this.part(dq, head, D, C)];
      product(from, turned(this.part(key.weight, head, D * C, C)), to, B, C, D);
      product(turned(this.part(q, head, D, C)), from, this.part(d.key.weight, head, D * C, C), D, B, C);
    }
    for (let i = 0; i < B * C; i++) dq[i] /= Math.sqrt(D);
  }
}
