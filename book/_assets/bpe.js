// The tokenizer: from text to numbers and back, by byte-level BPE, as GPT-2 does it.
//
//   1. The text is cut into words. A space belongs to the word behind it.
//   2. A word becomes its bytes in UTF-8, so every script and every emoji can be written.
//   3. Of all neighbours in the word, the pair that was learned first is joined; again, until no
//      pair is left that was learned.
//
// What was learned is a list of pieces. A piece's place in it is its rank and its token: 0 to 255
// are the single bytes, and everything behind them was once two pieces.

// A word is a contraction's end, letters, digits, other signs, or spaces; of several spaces before a
// word, the last one goes to the word. JavaScript's \s is not Unicode's white space: it is spelled out.
const WORDS = new RegExp(
  String.raw`'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    .replaceAll(String.raw`\s`, String.raw`\p{White_Space}`)
    .replaceAll(String.raw`\S`, String.raw`\P{White_Space}`),
  "gu",
);

class Tokenizer {
  // `file` is what tiktoken keeps: on each line a piece in base64, and its rank. Here a piece is a
  // string with one character for each byte.
  constructor(file) {
    this.pieces = file.trim().split("\n").map((line) => atob(line.split(" ")[0]));
    this.ranks = new Map(this.pieces.map((piece, rank) => [piece, rank]));
  }

  // A text's tokens. Half a surrogate pair is no text: the encoder writes U+FFFD in its place.
  encode(text) {
    const tokens = [];
    for (const [word] of text.matchAll(WORDS)) {
      const bytes = Array.from(new TextEncoder().encode(word), (byte) => String.fromCharCode(byte));
      for (const piece of this.join(bytes)) tokens.push(this.ranks.get(piece));
    }
    return tokens;
  }

  // Join neighbours, the pair of the lowest rank first, until no pair has one. Changes `parts`.
  join(parts) {
    const rank = (i) => (i >= 0 && i + 1 < parts.length && this.ranks.get(parts[i] + parts[i + 1])) || Infinity;
    const pairs = parts.map((_, i) => rank(i)); // pairs[i] is the rank of parts i and i + 1
    for (;;) {
      let best = 0;
      for (let i = 1; i < pairs.length; i++) if (pairs[i] < pairs[best]) best = i;
      if (pairs[best] === Infinity) return parts;
      parts.splice(best, 2, parts[best] + parts[best + 1]);
      pairs.splice(best + 1, 1);
      pairs[best] = rank(best);
      if (best > 0) pairs[best - 1] = rank(best - 1);
    }
  }

  // Tokens as text again.
  decode(tokens) {
    const bytes = tokens.map((token) => this.pieces[token]).join("");
    return new TextDecoder("utf-8").decode(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0)));
  }

  // A token as text that can be seen: signs for a space and a line's end, lone bytes as \xf0.
  show(token) {
    const bytes = Uint8Array.from(this.pieces[token], (byte) => byte.charCodeAt(0));
    try {
      const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
      return text.replaceAll(" ", "\u2423").replaceAll("\n", "\u23ce");
    } catch {
      return Array.from(bytes, (byte) => (byte < 128 ? String.fromCharCode(byte) : `\\x${byte.toString(16)}`)).join("");
    }
  }
}
