// How sure a difference is: the paired difference of two rows over seeds and messages with its 95 % interval, as in
// the package's intervals.py and compare.py, where the model behind it is explained.

// The logarithm of the gamma function (Lanczos, 1964).
function logGamma(x) {
  const parts = [76.18009172947146, -86.50532032941677, 24.01409824083091, -1.231739572450155, 0.1208650973866179e-2];
  const series = [...parts, -0.5395239384953e-5].reduce((sum, part, i) => sum + part / (x + 1 + i), 1.000000000190015);
  return (x + 0.5) * Math.log(x + 5.5) - (x + 5.5) + Math.log((2.5066282746310005 * series) / x);
}

// The regularised incomplete beta function, by its continued fraction.
function incompleteBeta(x, a, b) {
  if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
  const tiny = 1e-300, apart = (value) => (Math.abs(value) < tiny ? tiny : value);
  let c = 1, d = 1 / apart(1 - ((a + b) * x) / (a + 1)), sum = d;
  for (let m = 1; m < 300; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    for (const term of [even, odd]) {
      d = 1 / apart(1 + term * d);
      c = apart(1 + term / c);
      sum *= c * d;
    }
    if (Math.abs(c * d - 1) < 1e-13) break;
  }
  const front = logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x);
  return (Math.exp(front) * sum) / a;
}

// How far Student's t of some degrees of freedom goes to either side 95 times in a hundred.
function studentT(df, level = 0.95) {
  const outside = (t) => incompleteBeta(df / (df + t * t), df / 2, 0.5);
  let [low, high] = [0, 1];
  while (outside(high) > 1 - level) high *= 2;
  for (let i = 0; i < 80; i++) {
    const middle = (low + high) / 2;
    if (outside(middle) > 1 - level) low = middle;
    else high = middle;
  }
  return high;
}

// The mean of x, a list of numbers for each seed, over seeds and messages that might have been drawn.
function estimate(x) {
  const S = x.length, N = x[0].length;
  const mean = (numbers) => numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
  const variance = (numbers) => {
    const middle = mean(numbers);
    return numbers.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (numbers.length - 1);
  };
  const ofSeeds = x.map(mean), ofMessages = x[0].map((_, m) => mean(x.map((one) => one[m]))), all = mean(ofSeeds);
  let rest = 0;
  x.forEach((one, s) => one.forEach((value, m) => (rest += (value - ofSeeds[s] - ofMessages[m] + all) ** 2)));
  const ofMessage = S * variance(ofMessages);
  const ofSeed = S > 1 ? N * variance(ofSeeds) : 0, ofRest = S > 1 ? rest / ((S - 1) * (N - 1)) : 0;
  const total = Math.max(0, ofSeed - ofRest) + Math.max(0, ofMessage - ofRest) + ofRest; // times S N
  let doubt = ofMessage ** 2 / (N - 1);
  if (S > 1) doubt += ofSeed ** 2 / (S - 1) + ofRest ** 2 / ((S - 1) * (N - 1));
  const df = doubt ? Math.max(1, total ** 2 / doubt) : 1, se = Math.sqrt(total / (S * N));
  const half = se ? studentT(df) * se : 0;
  return { mean: all, half, low: all - half, high: all + half };
}

// `base` and `change`: for each seed, which messages it got right. With one seed the interval is that of the answers
// with two more messages, one that only the base has right and one that only the change has.
function difference(base, change) {
  const d = change.map((one, s) => one.map((right, m) => right - base[s][m])), found = estimate(d);
  if (d.length > 1) return found;
  const { half } = estimate([[...d[0], 1, -1]]);
  return { mean: found.mean, half, low: found.mean - half, high: found.mean + half };
}
