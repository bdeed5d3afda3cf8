// The figure of the page "A model in the page": each row's answer against the padding behind the message.

"use strict";

const CURVE = (() => {
  const { svg, percent } = PAGE;

  // Names at the lines' ends, moved apart where they would lie on each other.
  function apart(ends, least, lowest) {
    const sorted = [...ends].sort((a, b) => a.y - b.y);
    sorted.forEach((end, i) => {
      if (i) end.y = Math.max(end.y, sorted[i - 1].y + least);
    });
    for (let i = sorted.length - 1; i >= 0; i--) {
      sorted[i].y = Math.min(sorted[i].y, (i + 1 < sorted.length ? sorted[i + 1].y : lowest + least) - least);
    }
    return sorted;
  }

  // `lines` are { row, points: [[padding, share], ...] }; `chosen` is the row that stands out, `at` the slider.
  function draw(box, lines, chosen, at, most) {
    const width = Math.max(240, box.clientWidth);
    const height = 170;
    const [left, right, top, bottom] = [48, 34, 8, 22];
    const x = (padding) => left + ((width - left - right) * padding) / most;
    const y = (share) => top + (height - top - bottom) * (1 - share);
    const text = (x, y, words, anchor, name = "") => svg("text", { x, y, "text-anchor": anchor, class: name }, words);
    const marks = [0, 0.5, 1].flatMap((share) => [
      svg("line", { x1: left, y1: y(share), x2: width - right, y2: y(share), class: "live-axis" }),
      text(left - 6, y(share) + 4, `${100 * share}%`, "end"),
    ]);
    const path = (points) => points.map(([p, share], i) => `${i ? "L" : "M"}${x(p).toFixed(1)},${y(share).toFixed(1)}`);
    const order = [...lines].sort((a, b) => (a.row === chosen) - (b.row === chosen)).filter((line) => line.points.length);
    const name = (row) => (row === chosen ? "live-chosen" : "");
    const drawn = order.map(({ row, points }) => svg("path", { d: path(points).join(""), class: `live-curve ${name(row)}` }));
    const ends = apart(
      order.map(({ row, points }) => ({ row, y: y(points.at(-1)[1]) + 4 })),
      13,
      height - bottom + 4,
    );
    const names = ends.map(({ row, y }) => text(width - right + 6, y, row, "start", name(row)));
    const cursor = svg("line", { x1: x(at), y1: top, x2: x(at), y2: height - bottom, class: "live-cursor" });
    const below = [text(left, height - 4, "0 tokens of padding", "start"), text(width - right, height - 4, most, "end")];
    const words = order.map(({ row, points }) => {
      const shares = points.map(([, share]) => share);
      const [low, high] = [Math.min(...shares), Math.max(...shares)];
      return high - low < 0.005 ? `row ${row} stays at ${percent(high)}` : `row ${row} from ${percent(low)} to ${percent(high)}`;
    });
    box.setAttribute("aria-label", `Spam against padding, from none to ${most} tokens: ${words.join("; ") || "none yet"}.`);
    const figure = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true" });
    figure.append(...marks, cursor, ...drawn, ...names, ...below);
    box.replaceChildren(figure);
  }

  return { draw };
})();
