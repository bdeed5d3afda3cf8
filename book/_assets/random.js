// Random numbers as PyTorch and NumPy draw them, so that a seed means here what it means there: the same new
// head, the same order of messages, the same wrong labels. Only what a run of the package draws is here.

// MT19937 (Matsumoto and Nishimura, 1998), PyTorch's generator on a processor.
class Torch {
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const before = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(1812433253, before) + i;
    }
    this.next = 624;
  }

  // A number of 32 bits.
  bits() {
    const { state } = this;
    if (this.next === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (state[i] & 0x80000000) | (state[(i + 1) % 624] & 0x7fffffff);
        state[i] = state[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.next = 0;
    }
    let y = state[this.next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  // A seed for another generator: 64 bits are drawn, and the lower half is used.
  seed() {
    this.bits();
    return this.bits();
  }

  // torch.rand, between -bound and bound: 24 of the 32 bits.
  uniform(bound) {
    return (((this.bits() & 0xffffff) / 0x1000000) * 2 - 1) * bound;
  }

  // torch.randperm
  permutation(n) {
    const order = Uint32Array.from({ length: n }, (_, i) => i);
    for (let i = 0; i < n - 1; i++) {
      const j = i + (this.bits() % (n - i));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }
}

// The weight and bias of a new torch.nn.Linear(C, K) after torch.manual_seed(seed).
function newHead(seed, C, K) {
  const random = new Torch(seed), bound = 1 / Math.sqrt(C);
  const draw = (n) => Float32Array.from({ length: n }, () => random.uniform(bound));
  return { weight: draw(K * C), bias: draw(K) };
}

const EVAL_EVERY = 50; // training batches between two notes of the loss
const EVAL_BATCHES = 5; // batches that such a note looks at

// What a run does, in order, as lists of messages' numbers: `schedule` of the package. Each pass over the training
// messages, an evaluation's too, draws a new order; each pass over the others draws, and uses it for nothing.
function* schedule(seed, epochs, size, train, val) {
  const random = new Torch(seed);
  const batches = (order, count) =>
    Array.from({ length: count }, (_, i) => Array.from(order.slice(i * size, (i + 1) * size)));
  const full = Math.floor(train / size); // the last batch, if it has fewer, is left out
  const first = Math.min(EVAL_BATCHES, full);
  const pass = () => {
    random.seed();
    return new Torch(random.seed()).permutation(train);
  };
  const valOrder = Array.from({ length: val }, (_, i) => i);
  const look = (kind, more) => {
    const event = { kind, train: batches(pass(), first), ...more };
    random.seed();
    return { ...event, val: batches(valOrder, Math.min(EVAL_BATCHES, Math.ceil(val / size))) };
  };
  let step = 0, examples = 0;
  for (let epoch = 1; epoch <= epochs; epoch++) {
    for (const batch of batches(pass(), full)) {
      yield { kind: "step", batch };
      examples += batch.length;
      if (step % EVAL_EVERY === 0) yield look("losses", { step, examples });
      step++;
    }
    yield look("accuracies", { epoch });
  }
}

// PCG64 (O'Neill, 2014) as NumPy's default_rng makes it from a list of small numbers.
class NumPy {
  constructor(numbers) {
    const pool = new Uint32Array(4);
    let hash = 0x43b0d7e5;
    const mixed = (value, factor) => {
      value ^= hash;
      hash = Math.imul(hash, factor);
      value = Math.imul(value, hash);
      return value ^ (value >>> 16);
    };
    for (let i = 0; i < 4; i++) pool[i] = mixed(numbers[i] ?? 0, 0x931e8875);
    for (let from = 0; from < 4; from++) {
      for (let to = 0; to < 4; to++) {
        if (from === to) continue;
        const y = mixed(pool[from], 0x931e8875);
        const sum = (Math.imul(0xca01f9dd, pool[to]) - Math.imul(0x4973f715, y)) | 0;
        pool[to] = sum ^ (sum >>> 16);
      }
    }
    hash = 0x8b51f9dd;
    const words = Uint32Array.from({ length: 8 }, (_, i) => mixed(pool[i % 4], 0x58f38ded));
    const long = (i) => (BigInt(words[i + 1]) << 32n) | BigInt(words[i]);
    this.step = BigInt.asUintN(128, (((long(4) << 64n) | long(6)) << 1n) | 1n);
    this.state = this.step + ((long(0) << 64n) | long(2));
    this.advance();
    this.waiting = null; // the other half of 64 bits
  }

  advance() {
    this.state = BigInt.asUintN(128, this.state * 0x2360ed051fc65da44385df649fccf645n + this.step);
  }

  bits() {
    if (this.waiting !== null) {
      const bits = this.waiting;
      this.waiting = null;
      return bits;
    }
    this.advance();
    const x = BigInt.asUintN(64, this.state ^ (this.state >> 64n)), turn = this.state >> 122n;
    const turned = (x >> turn) | BigInt.asUintN(64, x << ((64n - turn) % 64n));
    this.waiting = Number(turned >> 32n);
    return Number(turned & 0xffffffffn);
  }

  // A whole number below n, each as likely (Lemire, 2019).
  below(n) {
    for (;;) {
      const product = BigInt(this.bits()) * BigInt(n);
      if (Number(product & 0xffffffffn) >= 2 ** 32 % n) return Number(product >> 32n);
    }
  }
}

// The numbers below n in an order that NumPy draws, its old generator (which is Torch's) or its new one: each place,
// from the last on, is exchanged with one before it, or itself. As many bits are taken as the place's number has.
function shuffled(random, n) {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const mask = 2 ** (32 - Math.clz32(i)) - 1;
    let j;
    do j = (random.bits() & mask) >>> 0;
    while (j > i);
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

// Labels of which a share, drawn by the seed, is wrong: `with_wrong_labels` of the package.
function withWrongLabels(labels, share, seed, K) {
  const random = new NumPy([seed, 0]), given = Array.from(labels);
  const wrong = shuffled(random, labels.length).slice(0, pythonRound(share * labels.length));
  for (const i of wrong) given[i] = (given[i] + 1 + (K > 2 ? random.below(K - 1) : 0)) % K;
  return given;
}

// The nearest whole number, and of two the even one.
function pythonRound(x) {
  const low = Math.floor(x);
  return x - low === 0.5 ? low + (low % 2) : Math.round(x);
}

// -- a reader's own messages ---------------------------------------------------------------------

// 70 % for training, 10 % for validation, 20 % for the test, each class alike, as the package splits a file (by
// scikit-learn's train_test_split): lists of places in `labels`.
function split(labels, K, seed) {
  const n = labels.length;
  const [train, rest] = halves(labels, K, pythonRound(0.7 * n), seed);
  const of = rest.map((i) => labels[i]);
  const [val, test] = halves(of, K, Math.floor(rest.length / 3), seed);
  return { train, val: val.map((i) => rest[i]), test: test.map((i) => rest[i]) };
}

function halves(labels, K, size, seed) {
  const random = new Torch(seed);
  const places = Array.from({ length: K }, (_, k) => [...labels.keys()].filter((i) => labels[i] === k));
  const counts = places.map((list) => list.length);
  const first = shareOut(counts, size, random);
  const left = counts.map((count, k) => count - first[k]);
  const second = shareOut(left, labels.length - size, random);
  const parts = [[], []];
  for (let k = 0; k < K; k++) {
    const drawn = Array.from(shuffled(random, counts[k]), (i) => places[k][i]);
    parts[0].push(...drawn.slice(0, first[k]));
    parts[1].push(...drawn.slice(first[k], first[k] + second[k]));
  }
  return parts.map((part) => Array.from(shuffled(random, part.length), (i) => part[i]));
}

// How many of each class make `n` together: in proportion, the largest remainders rounded up, of equal ones some.
function shareOut(counts, n, random) {
  const all = counts.reduce((sum, count) => sum + count);
  const exact = counts.map((count) => (count / all) * n), given = exact.map(Math.floor);
  let missing = n - given.reduce((sum, count) => sum + count);
  const remainders = exact.map((x, k) => x - given[k]);
  for (const value of [...new Set(remainders)].sort((x, y) => y - x)) {
    if (missing <= 0) break;
    const equal = [...remainders.keys()].filter((k) => remainders[k] === value);
    const chosen = shuffled(random, equal.length).slice(0, missing);
    for (const i of chosen) given[equal[i]]++;
    missing -= chosen.length;
  }
  return given;
}
