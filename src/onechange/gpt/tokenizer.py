"""Tokenizers: GPT-2's, the pocket family's own, and a folder's ``tokenizer.json`` or ``vocab.json`` and ``merges.txt``.

Both of ours are byte-level BPE (Sennrich et al., 2016; Radford et al., 2019) run by ``tiktoken``.
GPT-2's ranks are downloaded once; the pocket family's 4,096 ship in the package.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import tiktoken

from ..support.cache import download, root
from ..support.errors import UsageError
from ..support.package import POCKET
from .unread import file_is

END = "<|endoftext|>"

# GPT-2's rule for cutting text into words before any merging: contractions, letters, digits, the
# rest, spaces; as published with the model.
SPLIT = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

GPT2_ADDRESS = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"
GPT2_FILES = {
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}
"""GPT-2's tokenizer, as OpenAI published it: two files, and their SHA-256."""

GPT2_VOCABULARIES = range(50257, 50305)
"""Sizes of a vocabulary that is GPT-2's: its own, or filled up to 50,304 as nanoGPT's is, so that 64 divides it."""

POCKET_RANKS = POCKET / "tokenizer.tiktoken"


def learn(texts: Iterable[str], vocab_size: int) -> list[bytes]:
    """Learn byte-level BPE from ``texts`` with the ``tokenizers`` library.

    Returns ``vocab_size - 1`` byte strings in the order of their ranks: the 256 single bytes, then
    every merge as it was learned. The last id is left for ``<|endoftext|>``.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    engine = Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size - 1, initial_alphabet=alphabet, show_progress=True)
    engine.train_from_iterator(texts, trainer)
    byte_of = {char: byte for byte, char in byte_chars().items()}
    by_id = sorted(engine.get_vocab().items(), key=lambda item: item[1])
    return [bytes(byte_of[char] for char in token) for token, _ in by_id]


def byte_chars() -> dict[int, str]:
    """The printable character that stands for each byte in a Hugging Face byte-level vocabulary."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(rest)}


def write_ranks(ranks: list[bytes], path: str | Path) -> None:
    """Write ranks in tiktoken's own text format: base64 of the bytes, a space, the rank."""
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for rank, token in enumerate(ranks)]
    Path(path).write_text("".join(lines), encoding="ascii")


def read_ranks(path: str | Path) -> dict[bytes, int]:
    """Read what :func:`write_ranks` wrote."""
    pairs = (line.split() for line in Path(path).read_text(encoding="ascii").splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def to_json(ranks: dict[bytes, int]) -> str:
    """Ranks as the text of a Hugging Face ``tokenizer.json``, which wants to know each merge.

    A token of several bytes was merged from the two pieces that earlier merges leave of it.
    """
    from tokenizers import Regex, pre_tokenizers

    chars = byte_chars()

    def spell(token: bytes) -> str:
        return "".join(chars[byte] for byte in token)

    def pieces(token: bytes, rank: int) -> list[bytes]:
        parts = [token[i : i + 1] for i in range(len(token))]
        while True:
            pairs = [(ranks.get(a + b, rank), i) for i, (a, b) in enumerate(pairwise(parts))]
            best, i = min(pairs, default=(rank, 0))
            if best >= rank:
                return parts
            parts[i : i + 2] = [parts[i] + parts[i + 1]]

    in_order = sorted(ranks, key=lambda token: ranks[token])
    halves = [pieces(token, ranks[token]) for token in in_order if len(token) > 1]
    merges = [(spell(left), spell(right)) for left, right in halves]
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return byte_level_json({spell(token): rank for token, rank in ranks.items()}, merges, [split, bytes_only], [END])


def byte_level_json(vocab: dict[str, int], merges: list[tuple[str, str]], cuts: list[Any], special: list[str]) -> str:
    """Byte-level BPE as the text of a ``tokenizer.json``.

    Args:
        vocab: the tokens, spelled in characters that stand for bytes, and their ids.
        merges: pairs of tokens in the order in which they are merged.
        cuts: the ``tokenizers`` library's pre-tokenizers, which cut a text into words.
        special: tokens that no text spells; those that are not in ``vocab`` get the ids behind it.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    engine = Tokenizer(models.BPE(vocab, merges))
    engine.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens([AddedToken(token, special=True) for token in special])
    return engine.to_str()


@cache
def pocket_encoding(path: Path = POCKET_RANKS) -> tiktoken.Encoding:
    """The pocket family's tokenizer, from the ranks in the package: no network."""
    ranks = read_ranks(path)
    return tiktoken.Encoding("onechange-pocket", pat_str=SPLIT, mergeable_ranks=ranks, special_tokens={END: len(ranks)})


@dataclass(frozen=True)
class Tokenizer:
    """What the rest of the package needs of a tokenizer.

    Attributes:
        name: ``gpt2``, ``pocket``, or the path of a folder's own.
        encode: a text to its token ids; special tokens in it are read as plain text.
        decode_token: the bytes of one token.
        end: the id of ``<|endoftext|>``, which also pads.
        vocab_size: number of ids.
        json: a folder's own as the text of a ``tokenizer.json``; nothing for the other two.
    """

    name: str
    encode: Callable[[str], list[int]]
    decode_token: Callable[[int], bytes]
    end: int
    vocab_size: int
    json: str = ""


def tokenizer_for(scale: str, folder: Path | None = None, vocab_size: int = 50257) -> Tokenizer:
    """The tokenizer of a model: the pocket family's, GPT-2's, or that of a folder.

    A folder uses the one that lies in it; without one, a vocabulary of GPT-2's size is taken for GPT-2's.

    Raises:
        UsageError: if it is not there or does not fit the model.
    """
    if scale == "pocket":
        return _from_tiktoken("pocket", pocket_encoding())
    own = own_tokenizer(folder) if folder is not None else []
    if own:
        return _from_files(own, vocab_size)
    if folder is None or vocab_size in GPT2_VOCABULARIES:
        return _from_tiktoken("gpt2", gpt2_encoding())
    raise UsageError(
        f"{folder / 'tokenizer.json'} is not there: a vocabulary of {vocab_size} needs its own tokenizer.json, "
        "or vocab.json and merges.txt"
    )


def own_tokenizer(folder: Path) -> list[Path]:
    """The files of a folder's own tokenizer: ``tokenizer.json``, or GPT-2's older ``vocab.json`` and ``merges.txt``."""
    whole, pair = folder / "tokenizer.json", [folder / "vocab.json", folder / "merges.txt"]
    return [whole] if whole.is_file() else pair if all(path.is_file() for path in pair) else []


def _from_tiktoken(name: str, encoding: tiktoken.Encoding) -> Tokenizer:
    end = encoding.encode_single_token(END)
    return Tokenizer(name, encoding.encode_ordinary, encoding.decode_single_token_bytes, end, encoding.n_vocab)


@cache
def gpt2_encoding() -> tiktoken.Encoding:
    """GPT-2's tokenizer; its two files are downloaded once, to where tiktoken looks for them.

    Raises:
        UsageError: if they cannot be had, or are damaged.
    """
    if not os.environ.get("TIKTOKEN_CACHE_DIR"):  # empty, it would keep nothing
        os.environ["TIKTOKEN_CACHE_DIR"] = str(root() / "tiktoken")
    what = f"GPT-2's tokenizer ({' and '.join(GPT2_FILES)})"
    for (name, digest), path in zip(GPT2_FILES.items(), gpt2_files(), strict=True):
        download(GPT2_ADDRESS + name, path, digest, what)
    return tiktoken.get_encoding("gpt2")


def gpt2_files_are_here() -> bool:
    """Whether GPT-2's tokenizer can be had without a download."""
    return all(path.is_file() for path in gpt2_files())


def gpt2_files() -> list[Path]:
    """Where tiktoken keeps :data:`GPT2_FILES`, in their order: each by the SHA-1 of its address."""
    place = Path(os.environ.get("TIKTOKEN_CACHE_DIR") or root() / "tiktoken")
    return [place / hashlib.sha1((GPT2_ADDRESS + name).encode()).hexdigest() for name in GPT2_FILES]


def _from_files(files: list[Path], vocab_size: int) -> Tokenizer:
    """A folder's own tokenizer, run by the ``tokenizers`` library."""
    from tokenizers import Tokenizer as Engine
    from tokenizers import decoders

    path = files[0]
    try:
        text = path.read_text(encoding="utf-8") if len(files) == 1 else _joined(*files)
        engine = Engine.from_str(text)
    except Exception as error:  # the library raises nothing narrower
        raise UsageError(file_is(path) or f"{path} is not a tokenizer: {error}") from None
    end = engine.token_to_id(END)
    if end is None:
        end = _end_in(path.parent, vocab_size)
    if end is None or engine.get_vocab_size() > vocab_size:
        raise UsageError(
            f"{path} does not fit the model: it needs {END} (or config.json an eos_token_id) and at most "
            f"{vocab_size} entries"
        )
    engine.encode_special_tokens = True  # as text
    engine.no_truncation()
    engine.no_padding()

    def encode(text: str) -> list[int]:
        return list(engine.encode(text, add_special_tokens=False).ids)

    bytewise = isinstance(engine.decoder, decoders.ByteLevel)
    byte_of = {char: byte for byte, char in byte_chars().items()}

    def decode_token(i: int) -> bytes:
        return bytes(byte_of[char] for char in engine.id_to_token(i) or "") if bytewise else engine.decode([i]).encode()

    return Tokenizer(str(path), encode, decode_token, end, vocab_size, text)


def _joined(vocab: Path, merges: Path) -> str:
    """GPT-2's older pair of files as the text of one ``tokenizer.json``."""
    from tokenizers import models, pre_tokenizers

    tokens, pairs = models.BPE.read_file(str(vocab), str(merges))
    return byte_level_json(tokens, pairs, [pre_tokenizers.ByteLevel(add_prefix_space=False)], [END])


def _end_in(folder: Path, vocab_size: int) -> int | None:
    """The token that ``config.json`` says ends a text, for a tokenizer that has another word for it."""
    try:
        end = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError, AttributeError):
        return None
    return end if type(end) is int and 0 <= end < vocab_size else None
