// The figures of the page "Run it yourself": curves, dots, and the line of the difference, as SVG.

"use strict";

const FIGURES = (() => {
  const { svg } = PAGE;
  const signed = (x) => `${x > 0.049 ? "+" : x < -0.049 ? "\u2212" : ""}${Math.abs(x).toFixed(1)}`;
  const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`).join("");
  const line = (x1, y1, x2, y2, name) => svg("line", { x1, y1, x2, y2, class: name });
  const word = (x, y, text, anchor = "start", name = "") =>
    svg("text", { x, y, "text-anchor": anchor, class: name }, text);

  function put(box, width, height, words, ...children) {
    box.setAttribute("aria-label", words);
    box.replaceChildren(svg("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" }, ...children));
  }

  // Round ticks from low to high, about `count` of them.
  function ticks(low, high, count) {
    const rough = (high - low) / count;
    const ten = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((times) => times * ten >= rough) * ten;
    const first = Math.ceil(low / step - 1e-9);
    return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
  }

  // A side's losses: of each seed the notes, [examples, train, val], and means of ten batches, [examples, loss].
  function curves(box, side, { notes, running, batches, examples, top }) {
    const width = Math.max(200, box.clientWidth);
    const height = box.clientHeight || 170;
    const left = 30;
    const bottom = 20;
    const x = (n) => left + ((width - left - 6) * n) / examples;
    const y = (loss) => height - bottom - ((height - bottom - 8) * Math.min(loss, top)) / top;
    const marks = ticks(0, top, 4).map((loss) => [
      line(left, y(loss), width, y(loss), "tune-axis"),
      word(left - 5, y(loss) + 4, +loss.toFixed(2), "end"),
    ]);
    const lines = Object.entries(notes)
      .sort(([a], [b]) => (a === running) - (b === running))
      .flatMap(([seed, list]) =>
        [1, 2].map((which) =>
          svg("path", {
            d: path(list.map((note) => [x(note[0]), y(note[which])])),
            class: `tune-curve ${which === 2 ? "tune-val" : ""} ${seed === running ? "tune-runs" : ""}`,
          }),
        ),
      );
    const between = Object.entries(batches).map(([seed, list]) =>
      svg("path", {
        d: path(list.map(([n, loss]) => [x(n), y(loss)])),
        class: `tune-curve tune-batches ${seed === running ? "tune-runs" : ""}`,
      }),
    );
    const last = (notes[running] ?? Object.values(notes).at(-1) ?? []).at(-1);
    const [seen, train, val] = last ?? [];
    const seeds = Object.keys(notes).length;
    const words = last
      ? `${seeds} seeds; after ${seen} messages training ${train.toFixed(3)}, validation ${val.toFixed(3)}`
      : "none yet";
    const ends = [word(left, height - 4, "0"), word(width - 6, height - 4, examples.toLocaleString("en"), "end")];
    const drawn = svg("g", { class: `tune-${side}` }, ...between, ...lines);
    put(box, width, height, `Losses: ${words}.`, ...marks.flat(), ...ends, drawn);
  }

  // The sides' test accuracies, one dot a seed, in percent; a bar at their mean.
  function dots(box, names, accuracies) {
    const width = Math.max(240, box.clientWidth);
    const left = 4;
    const all = accuracies.flat();
    const low = Math.max(0, Math.floor(Math.min(...all) / 5) * 5 - 1);
    const high = Math.min(101, Math.ceil(Math.max(...all) / 5) * 5 + 1);
    const x = (share) => left + ((width - 2 * left) * (share - low)) / (high - low);
    const mean = (list) => list.reduce((sum, value) => sum + value, 0) / list.length;
    const parts = accuracies.flatMap((list, side) => {
      const y = 34 + 46 * side;
      const seen = new Map();
      const marks = list.map((value) => {
        const times = seen.get(value) ?? 0; // dots that would hide one another are put side by side
        seen.set(value, times + 1);
        return svg("circle", { cx: x(value), cy: y - Math.min(times, 4) * 3, r: 4.5, class: "tune-dot" });
      });
      const at = x(mean(list));
      return [
        word(left, y - 18, `${names[side]}: ${mean(list).toFixed(1)} %`, "start", "tune-ink"),
        line(left, y, width - left, y, "tune-axis"),
        svg("g", { class: `tune-${side}` }, ...marks, line(at, y - 11, at, y + 11, "tune-mean")),
      ];
    });
    const marks = ticks(low, high, 6).map((share) => word(x(share), 110, `${+share.toFixed(1)}`, "middle"));
    const words = names.map(
      (name, side) => `${name}: ${accuracies[side].length} seeds, mean ${mean(accuracies[side]).toFixed(1)} %`,
    );
    put(box, width, 116, `Test accuracy. ${words.join("; ")}.`, ...parts, ...marks);
  }

  // The difference after each seed, one line below the other, the last one as a forest plot's; then the stored one.
  function forest(box, found, kept) {
    const width = Math.max(240, box.clientWidth);
    const shown = found.slice(-12);
    const skipped = found.length - shown.length;
    const last = found.at(-1);
    const row = 13;
    const height = 44 + row * shown.length + (kept ? 36 : 8);
    const ends = [last, ...shown.slice(-4), ...(kept ? [kept] : [])].flatMap(({ low, high }) => [low, high, 0]);
    const [least, most] = [Math.min(...ends), Math.max(...ends)];
    const room = (most - least) * 0.06 || 1;
    const [from, to] = [least - room, most + room];
    const x = (points) => Math.min(width, Math.max(0, (width * (points - from)) / (to - from)));
    const parts = shown.map((one, i) => {
      const y = 24 + row * i;
      const is = one === last;
      return svg(
        "g",
        {},
        line(x(one.low), y, x(one.high), y, is ? "tune-last" : "tune-step"),
        svg("circle", {
          cx: x(one.mean),
          cy: y,
          r: is ? 6 : 2.5,
          class: is ? "tune-lastdot" : "",
          fill: "var(--oc-muted)",
        }),
      );
    });
    const bottom = 24 + row * shown.length;
    if (kept) {
      const y = bottom + 14;
      parts.push(
        line(x(kept.low), y, x(kept.high), y, "tune-kept"),
        svg("circle", { cx: x(kept.mean), cy: y, r: 5, class: "tune-keptdot" }),
        word(Math.min(x(kept.high) + 8, width - 50), y + 4, "stored"),
      );
    }
    const inside = ticks(from, to, 6).filter((points) => x(points) > 16 && x(points) < width - 16);
    const marks = inside.map((points) => word(x(points), height - 4, signed(points).replace(".0", ""), "middle"));
    const title = `Difference in points, from ${skipped ? `${skipped + 1} seeds` : "one seed"} to all`;
    const told = kept ? ` Stored: ${signed(kept.mean)} [${signed(kept.low)}, ${signed(kept.high)}].` : "";
    put(
      box,
      width,
      height,
      `${title}; now ${signed(last.mean)} [${signed(last.low)}, ${signed(last.high)}].${told}`,
      word(0, 10, title),
      line(x(0), 18, x(0), height - 18, "tune-zero"),
      ...parts,
      ...marks,
    );
  }

  return { curves, dots, forest, signed };
})();
