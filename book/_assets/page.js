// What the scripts of the interactive pages share: elements, words for numbers, figures as SVG, tables to keep.

"use strict";

const PAGE = (() => {
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const svg = (tag, attributes = {}, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const percent = (share) => `${(100 * share).toFixed(share < 0.1 || share > 0.9 ? 1 : 0)}%`;
  const count = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;
  const save = (name, text) => {
    const href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    element("a", { download: name, href }).click();
    setTimeout(() => URL.revokeObjectURL(href), 1000);
  };
  const pause = () => new Promise((resolve) => setTimeout(resolve));

  // ?present behind a page's name, for the projector: large letters, the panels alone.
  if (new URLSearchParams(location.search).has("present")) {
    document.documentElement.classList.add("present");
  }
  return { element, svg, percent, count, save, pause };
})();
