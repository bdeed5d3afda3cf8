"""Compile ``product.wat`` and write its bytes into ``product.js``, which a page loads.

It takes ``wat2wasm``, of Debian's package ``wabt`` or npm's (``npm install --global wabt@1.0.39``). Nothing else of
the book needs it: the bytes are kept in git, and a test compares them with the source.

    python book/_ext/product.py
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ASSETS = Path(__file__).parents[1] / "_assets"
SOURCE, SCRIPT = ASSETS / "product.wat", ASSETS / "product.js"
BYTES = re.compile(r"(?<=const COMPILED =\n)(?: *\".*\"(?: \+\n|;\n))+")


def compiled(source: Path = SOURCE) -> bytes:
    """What ``wat2wasm`` makes of the source."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "product.wasm"
        subprocess.run([str(shutil.which("wat2wasm")), str(source), "-o", str(target)], check=True)
        return target.read_bytes()


def embedded(script: Path = SCRIPT) -> bytes:
    """The bytes that stand in the script."""
    found = BYTES.search(script.read_text(encoding="utf-8"))
    assert found is not None, f"{script.name} has no COMPILED"
    return base64.b64decode("".join(re.findall(r'"(.*)"', found[0])))


def main() -> None:
    if not shutil.which("wat2wasm"):
        sys.exit("wat2wasm is not installed: npm install --global wabt@1.0.39")
    text = base64.b64encode(compiled()).decode()
    lines = [f'  "{text[i : i + 108]}"' for i in range(0, len(text), 108)]
    script = BYTES.sub(" +\n".join(lines) + ";\n", SCRIPT.read_text(encoding="utf-8"))
    SCRIPT.write_text(script, encoding="utf-8")


if __name__ == "__main__":
    main()
