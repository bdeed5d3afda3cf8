// The widgets' script asks for MathJax 2's queue; MathJax 3 has none and needs none.
window.MathJax = window.MathJax || {};
window.MathJax.Hub = window.MathJax.Hub || { Queue() {} };
// A page read from the disk may not fetch another: search lists titles there, without excerpts.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined")
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
// A slider's handle does not say what it moves: it gets the words that stand beside it.
if (document.querySelector('script[type="application/vnd.jupyter.widget-state+json"]'))
  new MutationObserver(() => {
    for (const handle of document.querySelectorAll(".noUi-handle:not([aria-label])"))
      handle.setAttribute("aria-label", handle.closest(".jupyter-widgets")?.querySelector("label, .widget-label")?.textContent || "value");
  }).observe(document.body, { childList: true, subtree: true });
