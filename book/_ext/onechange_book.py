"""What the stock Jupyter Book page needs to become this book's: a small Sphinx extension."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any
from urllib.parse import urlsplit

from pybtex.plugin import register_plugin
from pybtex.richtext import Text
from pybtex.style.formatting.plain import Style as Plain
from pybtex.style.labels import BaseLabelStyle
from sphinx.application import Sphinx
from sphinx.config import Config

from onechange.experiment.rows import TABLE

SUMMARY = "What matters when you finetune a GPT: one baseline, eighteen changes, and how sure we can be."


class AuthorYear(BaseLabelStyle):
    """Labels of the list of references in the form in which the text cites them: Hu et al., 2022."""

    def format_labels(self, sorted_entries: list[Any]) -> Iterator[str]:
        for entry in sorted_entries:
            names = [str(Text.from_latex(" ".join(person.last_names))) for person in entry.persons["author"]]
            who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
            yield f"{who}, {entry.fields['year']}"


class References(Plain):
    """The plain style, by author and year."""

    default_label_style = AuthorYear


def site(config: Config) -> str:
    """Where the book is published: GitHub Pages of the repository, or nothing while that is a placeholder."""
    address = urlsplit(config.html_theme_options.get("repository_url", ""))
    owner, _, name = address.path.strip("/").partition("/")
    return "" if (owner, name) in (("OWNER", "REPOSITORY"), ("", "")) else f"https://{owner.lower()}.github.io/{name}/"


def configure(app: Sphinx, config: Config) -> None:
    """Settings that follow from the repository's address."""
    base = site(config)
    config.html_baseurl = base
    config.notfound_urls_prefix = urlsplit(base).path or "/"


def page(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    """Drop scripts that are not used, describe the page to those who link to it, mark the row it is about."""
    files = context.get("script_files", [])
    files[:] = [file for file in files if not _thebe(file)]
    if "body" in context:  # a bibliography says it is a list, but its entries do not say they are items
        context["body"] = context["body"].replace(
            '<div role="list" class="citation-list">', '<div class="citation-list">'
        )
    base, book = site(app.config), app.config.html_title
    title = context.get("title") or book
    tags = {
        "og:type": "article",
        "og:site_name": book,
        "og:title": title if title == book else f"{title} · {book}",
        "og:description": SUMMARY,
        "og:image": f"{base}_static/social-card.png",
        "og:image:width": "1200",
        "og:image:height": "630",
        "og:image:alt": "Nineteen dots in a hexagon, one of them coloured, beside the book's title",
        "twitter:card": "summary_large_image",
    }
    if base:
        tags["og:url"] = f"{base}{pagename}.html"
    lines = [f'<meta name="description" content="{SUMMARY}" />']
    lines += [f'<meta property="{name}" content="{escape(value, quote=True)}" />' for name, value in tags.items()]
    if rows := [number for number, row in TABLE.items() if row.home == pagename]:
        lines.append(f"<style>{mark(rows)}</style>")
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


def mark(rows: list[int]) -> str:
    """The rule under a chapter's title: a dot for each row of the table, the chapter's own coloured and named."""
    dot = "radial-gradient(circle at 3.5px 50%, var(--oc-{}) 3px, transparent 3.5px) {}px 0 / 12px 100% {}"
    own = [dot.format("change", 12 * (row - 1), "no-repeat") for row in rows]
    named = f"row{'s' * (len(rows) > 1)} {', '.join(map(str, rows))}"
    # the other dots end where the words begin
    every = ", ".join([*own, f"linear-gradient(var(--oc-paper), var(--oc-paper)) {12 * len(TABLE)}px 0 no-repeat",
                       dot.format("dot", 0, "repeat-x")])  # fmt: skip
    return f'.bd-article h1::after {{ content: "{named}"; background: {every}; padding-left: {12 * len(TABLE) + 8}px }}'


def _thebe(file: object) -> bool:
    """Whether a script belongs to Thebe, which runs code on a server and is off: stock pages load it all the same."""
    body = str((getattr(file, "attributes", None) or {}).get("body", ""))
    return "THEBE" in body.upper() or "sphinx-thebe" in str(getattr(file, "filename", "") or file)


def docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Keep Napoleon from reading a field's "Anything: more" as a type and its meaning."""
    if what in ("attribute", "data", "property") and lines:
        lines[:0] = ["..", ""]  # a comment: what follows is no longer the first line


def setup(app: Sphinx) -> dict[str, Any]:
    register_plugin("pybtex.style.formatting", "author_year", References)
    app.connect("config-inited", configure, priority=900)
    app.connect("autodoc-process-docstring", docstring, priority=400)
    app.connect("html-page-context", page, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
