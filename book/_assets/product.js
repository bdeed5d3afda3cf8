// Where the numbers of training lie, and the product of two matrices of them. Nearly all the time goes here.
//
// A matrix is a view of an array: where it starts, how far a number is from the one below it (`row`) and from the
// one beside it (`column`). Turned over, it is the same numbers with the two exchanged; nothing is copied.

const matrix = (x, row, at = 0) => ({ x, at, row, column: 1 });
const turned = ({ x, at, row, column }) => ({ x, at, row: column, column: row });

// C += A B with M rows, N columns (a multiple of 8; of 4 where B is turned), and sums of K numbers (there too a
// multiple of 4). C's rows hold neighbours, and so do B's, or, where B is turned, A's and B's columns.
//
// Four columns of B are taken together, so that a number of A, once fetched, is used more than once.
function plainProduct(A, B, C, M, K, N) {
  const [a, b, c] = [A.x, B.x, C.x];
  for (let m = 0; m < M; m++) {
    for (let n = 0; n < N; n += 4) {
      const at = C.at + m * C.row + n;
      const b0 = B.at + n * B.column, b1 = b0 + B.column, b2 = b1 + B.column, b3 = b2 + B.column;
      let c0 = c[at], c1 = c[at + 1], c2 = c[at + 2], c3 = c[at + 3];
      let i = A.at + m * A.row, j = 0;
      for (let k = 0; k < K; k++) {
        const x = a[i];
        c0 += x * b[b0 + j]; c1 += x * b[b1 + j]; c2 += x * b[b2 + j]; c3 += x * b[b3 + j];
        i += A.column;
        j += B.row;
      }
      c[at] = c0; c[at + 1] = c1; c[at + 2] = c2; c[at + 3] = c3;
    }
  }
}

// The same by product.wat, which takes four numbers at a time, where the browser can: compiled, it is these bytes.
const COMPILED =
  "AGFzbQEAAAABKgRgBH9/f38Bf2AKf39/f39/f39/fwBgBHt7e3sBe2AJf39/f39/f39/AAIQAQRwYWdlBm1lbW9yeQIAAQMFBAABAgMHFwIF" +
  "dGltZXMAAQt0aW1lc1R1cm5lZAADCpwKBBsBAX8gAkEBayEEIAAgAyABIAQgASAESBtsaguTBAoEfwJ7An8CewJ/AnsCfwJ7An8CewNAQQAh" +
  "CgNAIAMgCiAAIAQQACEQIAggCiAAIAkQACERIBH9AAQAIRIgEf0ABBAhEyADIApBAWogACAEEAAhFCAIIApBAWogACAJEAAhFSAV/QAEACEW" +
  "IBX9AAQQIRcgAyAKQQJqIAAgBBAAIRggCCAKQQJqIAAgCRAAIRkgGf0ABAAhGiAZ/QAEECEbIAMgCkEDaiAAIAQQACEcIAggCkEDaiAAIAkQ" +
  "ACEdIB39AAQAIR4gHf0ABBAhHyAGIQ0gASEMA0AgDf0ABAAhDiAN/QAEECEPIBIgEP0JAgAgDv3mAf3kASESIBMgEP0JAgAgD/3mAf3kASET" +
  "IBYgFP0JAgAgDv3mAf3kASEWIBcgFP0JAgAgD/3mAf3kASEXIBogGP0JAgAgDv3mAf3kASEaIBsgGP0JAgAgD/3mAf3kASEbIB4gHP0JAgAg" +
  "Dv3mAf3kASEeIB8gHP0JAgAgD/3mAf3kASEfIBAgBWohECAUIAVqIRQgGCAFaiEYIBwgBWohHCANIAdqIQ0gDEEBayIMDQALIBEgEv0LBAAg" +
  "ESAT/QsEECAVIBb9CwQAIBUgF/0LBBAgGSAa/QsEACAZIBv9CwQQIB0gHv0LBAAgHSAf/QsEECAKQQRqIQogCiAASA0ACyAGQSBqIQYgCEEg" +
  "aiEIIAtBCGohCyALIAJIDQALC5MBACAAIAH9DQABAgMQERITBAUGBxQVFhcgACAB/Q0ICQoLGBkaGwwNDg8cHR4f/eQBIQAgAiAD/Q0AAQID" +
  "EBESEwQFBgcUFRYXIAIgA/0NCAkKCxgZGhsMDQ4PHB0eH/3kASECIAAgAv0NAAECAwQFBgcQERITFBUWFyAAIAL9DQgJCgsMDQ4PGBkaGxwd" +
  "Hh/95AEL0wQKA38DewV/AnsBfwJ7AX8CewF/AnsDQEEAIQkDQCADIAkgACAEEAAhDyAHIAkgACAIEAAhECADIAlBAWogACAEEAAhESAHIAlB" +
  "AWogACAIEAAhEiAFIRMgEyAGaiEWIBYgBmohGSAZIAZqIRz9DAAAAAAAAAAAAAAAAAAAAAAhFP0MAAAAAAAAAAAAAAAAAAAAACEV/QwAAAAA" +
  "AAAAAAAAAAAAAAAAIRf9DAAAAAAAAAAAAAAAAAAAAAAhGP0MAAAAAAAAAAAAAAAAAAAAACEa/QwAAAAAAAAAAAAAAAAAAAAAIRv9DAAAAAAA" +
  "AAAAAAAAAAAAAAAhHf0MAAAAAAAAAAAAAAAAAAAAACEeIAEhCwNAIA/9AAQAIQwgEf0ABAAhDSAT/QAEACEOIBQgDCAO/eYB/eQBIRQgFSAN" +
  "IA795gH95AEhFSAW/QAEACEOIBcgDCAO/eYB/eQBIRcgGCANIA795gH95AEhGCAZ/QAEACEOIBogDCAO/eYB/eQBIRogGyANIA795gH95AEh" +
  "GyAc/QAEACEOIB0gDCAO/eYB/eQBIR0gHiANIA795gH95AEhHiAPQRBqIQ8gEUEQaiERIBNBEGohEyAWQRBqIRYgGUEQaiEZIBxBEGohHCAL" +
  "QQRrIgtBAEoNAAsgEP0ABAAgFCAXIBogHRAC/eQBIQwgEv0ABAAgFSAYIBsgHhAC/eQBIQ0gECAM/QsEACASIA39CwQAIAlBAmohCSAJIABI" +
  "DQALIAUgBkEEbGohBSAHQRBqIQcgCkEEaiEKIAogAkgNAAsL";

let compiled = null; // the two functions of product.wat
let memory = null; // the one memory that they know
let used = 0; // bytes of it

// Room for so many bytes of numbers. Without `fast`, or where the browser cannot, the loop above is used.
function reserve(bytes, fast = true) {
  [compiled, memory, used] = [null, null, 0];
  if (!fast) return;
  try {
    const code = Uint8Array.from(atob(COMPILED), (letter) => letter.charCodeAt(0));
    memory = new WebAssembly.Memory({ initial: Math.ceil(bytes / 65536) });
    compiled = new WebAssembly.Instance(new WebAssembly.Module(code), { page: { memory } }).exports;
  } catch {
    memory = null;
  }
}

// n numbers of 32 bits, all 0.
function floats(n) {
  if (!memory) return new Float32Array(n);
  const at = used;
  used += Math.ceil(n / 4) * 16;
  if (used > memory.buffer.byteLength) throw new Error("more numbers than room was reserved for");
  return new Float32Array(memory.buffer, at, n);
}

function product(A, B, C, M, K, N) {
  if (!compiled) return plainProduct(A, B, C, M, K, N);
  const place = ({ x, at }) => x.byteOffset + 4 * at;
  const [a, b, c] = [place(A), place(B), place(C)];
  if (B.column === 1) compiled.times(M, K, N, a, 4 * A.row, 4 * A.column, b, 4 * B.row, c, 4 * C.row);
  else compiled.timesTurned(M, K, N, a, 4 * A.row, b, 4 * B.column, c, 4 * C.row);
}
