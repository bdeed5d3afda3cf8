"""The report: what was found, as text, as plain values, and as one page of HTML that needs nothing from outside."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..show.plot import Chart
from ..support.errors import UsageError
from ..support.files import home, write_atomically
from ..training.result import finite
from .findings import CHAPTERS, LEVELS, SIGNS, Finding, Level, counted

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


@dataclass(frozen=True)
class Report:
    """What the doctor found.

    Attributes:
        subject: what was looked at.
        understood: what was understood of it, a line each.
        findings: those to do something about first.
        frames: tables, by name.
        figures: charts, by name.
        seconds: how long it took.
    """

    subject: str
    understood: tuple[str, ...]
    findings: tuple[Finding, ...]
    frames: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False)
    figures: dict[str, Chart] = field(default_factory=dict, repr=False)
    seconds: float = 0.0

    def __getitem__(self, key: str) -> Finding:
        """The finding of a key."""
        return next(finding for finding in self.findings if finding.key == key)

    def of(self, level: Level) -> list[Finding]:
        """The findings of a level."""
        return [finding for finding in self.findings if finding.level == level]

    @property
    def healthy(self) -> bool:
        """Whether there is nothing to do something about."""
        return not self.of("act")

    @property
    def verdict(self) -> str:
        """The whole in a sentence."""
        ill, know, well = (len(self.of(level)) for level in LEVELS)
        first = f"{counted(ill, 'thing')} to do something about" if ill else "Nothing to do something about"
        return f"{first}, {know} to know, {well} in order."

    @property
    def table(self) -> pd.DataFrame:
        """The findings as a frame: ``level``, ``title``, ``do``, by key."""
        rows = [(f.key, f.level, f.title, f.do) for f in self.findings]
        return pd.DataFrame(rows, columns=["finding", "level", "title", "do"]).set_index("finding")

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values; the figures by their alternative texts."""
        frames: dict[str, Any] = {name: frame.to_dict("records") for name, frame in self.frames.items()}
        return finite({
            "subject": self.subject,
            "understood": list(self.understood),
            "healthy": self.healthy,
            "verdict": self.verdict,
            "findings": [asdict(finding) for finding in self.findings],
            "frames": frames,
            "figures": {name: chart.alt for name, chart in self.figures.items()},
            "seconds": self.seconds,
        })  # fmt: skip

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False, default=plain)

    def to_html(self, book: str = "") -> str:
        """The whole as one page that needs nothing from outside; chapters are links where ``book`` says it is."""
        return page(self, book)

    def save(self, path: str | Path, book: str = "") -> Path:
        """Write :meth:`to_html` to a file, whole or not at all."""
        path, text = Path(home(path)), self.to_html(book)
        write_atomically(path, lambda temporary: Path(temporary).write_text(text, encoding="utf-8"))
        return path

    def _repr_html_(self) -> str:
        return body(self, "", own_page=False)

    def __str__(self) -> str:
        parts = [self.subject, *self.understood, "", self.verdict]
        for level, heading in LEVELS.items():
            if found := self.of(level):
                parts += ["", heading, *map(str, found)]
        return "\n".join(parts)


def plain(value: Any) -> Any:
    """A number of NumPy's as Python's."""
    return value.item()


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
