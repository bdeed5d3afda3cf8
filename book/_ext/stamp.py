"""Write the repository's address where it is needed; it stands once, in ``_config.yml``.

    python book/_ext/stamp.py                               # stamp the address in _config.yml
    python book/_ext/stamp.py https://github.com/YOU/YOURS  # change it there first

What is stamped is the first cell of every notebook, which installs the package on Colab.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINE = re.compile(r"^(  url: )(\S+)$", re.MULTILINE)
CELL = """\
# On Colab this installs the book's package; anywhere else it changes nothing.
from functools import partial
from importlib.util import find_spec

if find_spec("onechange") is None:
    %pip install --quiet git+{address}
if find_spec("myst_nb"):  # the book's pages: numbers go into the text
    from myst_nb import glue

    glue = partial(glue, display=False)
else:  # anywhere else: they are printed

    def glue(name, value):
        print(name, "=", value)
"""


def address(root: Path = ROOT) -> str:
    """The repository's address, from ``_config.yml``."""
    found = LINE.search((root / "_config.yml").read_text(encoding="utf-8"))
    if not found:
        sys.exit("_config.yml has no repository url")
    return found[2]


def notebooks(root: Path = ROOT) -> list[Path]:
    """The book's notebooks, in order of name."""
    hidden = lambda path: any(part.startswith((".", "_")) for part in path.relative_to(root / "book").parts)  # noqa: E731
    return sorted(path for path in (root / "book").rglob("*.ipynb") if not hidden(path))


def cell(root: Path = ROOT) -> str:
    """The first cell of every notebook."""
    return CELL.format(address=address(root)).rstrip("\n")


def main(words: list[str], root: Path = ROOT) -> None:
    if words:
        if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", words[0].rstrip("/")):
            sys.exit(f"{words[0]} is not an address like https://github.com/YOU/YOURS")
        config = root / "_config.yml"
        text = config.read_text(encoding="utf-8")
        config.write_text(LINE.sub(rf"\g<1>{words[0].rstrip('/')}", text, count=1), encoding="utf-8")
    for path in notebooks(root):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        notebook["cells"][0]["source"] = cell(root).splitlines(keepends=True)
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
