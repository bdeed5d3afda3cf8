"""The report as one page of HTML that needs nothing from outside: its style and its figures are in it."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

from ..support.errors import UsageError
from .findings import CHAPTERS, LEVELS, SIGNS, Finding, Report

STYLE = """
.oc-report{--oc-change:#b3420d;--oc-act:#a3240c;--oc-line:#0003;font:16px/1.5 var(--oc-font,system-ui,sans-serif)}
.oc-report h1{font-size:1.5rem;line-height:1.25;margin:0 0 .5rem}
.oc-report h2{font-size:1.15rem;margin:2rem 0 .25rem}
.oc-report p{margin:.25rem 0}
.oc-report .oc-verdict{font-size:1.1rem;font-weight:600;margin:1rem 0}
.oc-report details{border-top:1px solid var(--oc-line);padding:.5rem 0}
.oc-report summary{cursor:pointer;font-weight:600;overflow-wrap:anywhere}
.oc-report .oc-act summary{color:var(--oc-act)}
.oc-report dl{display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem;margin:.5rem 0 .25rem}
.oc-report dt{opacity:.75}
.oc-report dd{margin:0;overflow-wrap:anywhere}
.oc-report .oc-scroll{overflow-x:auto}
.oc-report table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
.oc-report th,.oc-report td{text-align:left;padding:.2rem .9rem .2rem 0;vertical-align:top}
.oc-report td{border-top:1px solid var(--oc-line)}
.oc-report a{color:inherit}
@media(max-width:540px){.oc-report dl{grid-template-columns:1fr}.oc-report dd{margin-bottom:.4rem}}
"""
DARK = ".oc-report{--oc-change:#ff9a5c;--oc-act:#ffa08c;--oc-line:#fff3}"
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>body{{margin:0 auto;max-width:46rem;padding:1.5rem 1rem 3rem;background:#fff;color:#23272d}}
@media(prefers-color-scheme:dark){{body{{background:#14181e;color:#dfe3e8}}}}</style>
</head>
<body><main>{body}</main></body>
</html>
"""
NAMES = {
    "scores": "What needs no network, and the model", "classes": "Each class", "copies": "Copies between the parts",
    "contradictions": "The same message under two labels", "errors": "The surest errors",
    "padding": "By the length that is padded to", "first": "By the first tokens", "calibration": "By what it says",
    "lengths": "Training messages by length",
}  # fmt: skip
MOST = 20  # rows of a table on the page


def page(report: Report, book: str = "") -> str:
    """The whole file."""
    return PAGE.format(title=escape(f"Report: {report.subject}"), body=body(report, book))


def body(report: Report, book: str, own_page: bool = True) -> str:
    """The report as a piece of a page; in a notebook the page around it says which theme it has."""
    dark = f"@media(prefers-color-scheme:dark){{{DARK}}}" if own_page else f"html[data-theme=dark] {DARK}"
    heading = f"<h1>{escape(report.subject)}</h1>" if own_page else f"<p><b>{escape(report.subject)}</b></p>"
    parts = [f"<style>{STYLE}{dark}</style>", heading, *(f"<p>{escape(line)}</p>" for line in report.understood)]
    parts.append(f'<p class="oc-verdict">{escape(report.verdict)}</p>')
    for level, title in LEVELS.items():
        if found := report.of(level):
            parts.append(f"<h2>{title}</h2>" if own_page else f"<p><b>{title}</b></p>")
            parts += [finding(f, book) for f in found]
    if own_page:
        for name in {**report.figures, **report.frames}:
            parts.append(exhibit(report, name))
    return f'<div class="oc-report">{"".join(parts)}</div>'


def finding(f: Finding, book: str) -> str:
    """A finding, folded unless something is to be done about it."""
    chapter = escape(CHAPTERS[f.chapter])
    link = f'<a href="{escape(book.rstrip("/"), quote=True)}/{f.chapter}.html">{chapter}</a>' if book else chapter
    rows = [("To do", escape(f.do)), ("Measured", escape(f.measured)), ("How sure", escape(f.sure)), ("Chapter", link)]
    words = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in rows if text)
    sign = escape(SIGNS[f.level])
    opened = " open" if f.level == "act" else ""
    return (
        f'<details class="oc-{f.level}"{opened}><summary>{sign} {escape(f.title)}</summary><dl>{words}</dl></details>'
    )


def exhibit(report: Report, name: str) -> str:
    """A figure and its table under one heading."""
    chart, frame = report.figures.get(name), report.frames.get(name)
    if chart is None and (frame is None or frame.empty):
        return ""
    figure = chart._repr_html_() if chart is not None else ""
    return f"<h2>{NAMES[name]}</h2>{figure}{'' if frame is None else table(frame)}"


def table(frame: pd.DataFrame) -> str:
    """A frame's first rows; numbers with three digits."""
    short = frame[:MOST].copy()
    for column in short.select_dtypes(np.floating):
        short[column] = [f"{x:.3g}" for x in short[column]]
    more = f"<p>and {len(frame) - MOST} more</p>" if len(frame) > MOST else ""
    return f'<div class="oc-scroll" tabindex="0">{short.to_html(index=False, border=0)}</div>{more}'


def check_target(path: Path) -> None:
    """Whether a page could be written here, asked before anything is computed."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file for the page")
    folder = path.absolute().parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise UsageError(f"{path} cannot be written: {folder} is not a folder one may write to")
