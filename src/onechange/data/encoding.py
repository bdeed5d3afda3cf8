"""The bytes of a text file, packed or not, to its text: which encoding it has, and what it is instead of a text."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
WINDOWS = {i: bytes([i]).decode("cp1252") for i in range(0x80, 0xA0) if i not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}


class Unreadable(Exception):
    """Why a file is not what its ending says."""


def read_text(path: Path) -> tuple[str, str]:
    """A file's text with plain line ends, and its encoding's name; what is packed by gzip is unpacked.

    Raises:
        Unreadable: if it is empty, damaged, or no text.
    """
    raw = path.read_bytes()
    if raw.startswith(b"\x1f\x8b"):
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise Unreadable(f"the gz file is damaged ({error})") from None
    if raw.startswith(b"PK\x03\x04"):
        raise Unreadable("it is a zip archive or an Excel workbook: unpack it, or save the sheet as CSV UTF-8")
    text, encoding = decode(raw)
    text = text.replace("\r\n", "\n")
    if not text.strip():
        raise Unreadable("it is empty")
    return text if "\n" in text else text.replace("\r", "\n"), encoding  # a Mac's, long ago


def decode(raw: bytes) -> tuple[str, str]:
    """Bytes to text, and the encoding's name: what a byte order mark says, else UTF-8, else Latin-1.

    Latin-1 is read as the web reads it, as Windows-1252. A text that is UTF-8 but for a few bytes is not Latin-1.
    """
    for mark, codec, name in MARKS:
        if raw.startswith(mark):
            try:
                return raw.decode(codec), name
            except UnicodeDecodeError as error:
                raise Unreadable(f"it is not valid {name}, as it says it is (byte {error.start})") from None
    if raw[:1000].count(0) * 3 > len(raw[:1000]):
        raise Unreadable("it looks like UTF-16 without a byte order mark, or is no text: save it as UTF-8")
    try:
        return raw.decode(), "UTF-8"
    except UnicodeDecodeError as error:
        letters = raw.decode(errors="surrogateescape")
        stray = sum("\udc80" <= letter <= "\udcff" for letter in letters)
        if sum(letter > "\x7f" for letter in letters) > 2 * stray:
            line = raw.count(b"\n", 0, error.start) + 1
            raise Unreadable(f"it is UTF-8, but not valid at byte {error.start} (line {line})") from None
        return raw.decode("latin-1").translate(WINDOWS), "Latin-1"
