// The widgets' script asks for MathJax 2's queue; MathJax 3 has none and needs none.
window.MathJax = window.MathJax || {};
window.MathJax.Hub = window.MathJax.Hub || { Queue() {} };
// A page read from the disk may not fetch another: search lists titles there, without excerpts.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined")
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
