// One side of the page "Run it yourself", in a thread of its own. It is sent what to run, then seeds, and posts what
// happens; between two steps it listens whether it is to stop.

"use strict";

{
  const QUIET = 40; // milliseconds between two breaks
  const bell = new MessageChannel();
  const pause = () => new Promise((resolve) => {
    bell.port1.onmessage = resolve;
    bell.port2.postMessage(null);
  });

  let run;
  let stopped;

  async function train(seed) {
    let heard = performance.now(), losses = [], steps = 0;
    for (const event of run.events(seed)) {
      if (event.kind === "step") losses.push(event.loss);
      else if (event.kind !== "read") postMessage({ seed, ...event });
      steps += event.kind === "step";
      if (losses.length === 10) {
        postMessage({ seed, kind: "batches", step: steps, loss: average(losses) });
        losses = [];
      }
      if (performance.now() - heard < QUIET) continue;
      if (event.kind === "read") postMessage({ seed, ...event });
      await pause();
      heard = performance.now();
      if (stopped) return;
    }
  }

  onmessage = async ({ data }) => {
    if (data.stop) stopped = true;
    try {
      if (data.run) run = new Run(...data.run);
      if (!data.seeds) return;
      stopped = false;
      for (const seed of data.seeds) {
        await train(seed);
        if (stopped) break;
      }
      postMessage({ kind: "end" });
    } catch (error) {
      postMessage({ kind: "error", message: String(error.message ?? error) });
    }
  };
}
