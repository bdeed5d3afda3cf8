"""Any text, in by argument, file, pipe, or as a message of a table. Members of the kind that were thought of:

NULs, alone and within; emoji joined and alone; right to left with its marks; combining marks by the thousand; blanks
of no width, of other alphabets, line breaks of Unicode and of old Macs; a byte order mark within; the last code
points; a million characters; half a surrogate pair, from a shell's bytes and from JSON; UTF-16 as PowerShell writes it.
Tested elsewhere: runs of blanks or letters that no tokenizer stands, output that is no UTF-8.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from onechange import Experiment, UsageError, run
from onechange.classifier.saved import save
from onechange.cli.main import main
from onechange.data.table import check_message, read_table

TEXTS = {
    "NUL": "a\0b", "only NULs": "\0\0", "emoji": "🎉👩\u200d👩\u200d👧🇬🇧", "right to left": "\u202eمرحبا שלום\u202c",
    "no width": "\u200b\u2060", "other blanks": "a\u3000b\u00a0c", "Unicode's line breaks": "a\u2028b\u2029c\x85d\x0be",
    "old Mac": "a\rb", "byte order mark": "a\ufeffb", "last code points": "\uffff\U0010ffff",
    "combining": "e" + "\u0301" * 5000, "a million": "word " * 200_000, "quotation marks": '"""',
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    e = Experiment(model_size="pocket-small", train_size=16, num_epochs=1, trainable_layers="last_layer")
    return str(save(run(e, progress=False), tmp_path_factory.mktemp("model") / "M"))


@pytest.mark.parametrize("kind", TEXTS)
def test_any_text_gets_an_answer(
    kind: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same one by argument, from a file and from a pipe, with the text beside it."""
    text, answers = TEXTS[kind], []
    raw = f"{text}\n".encode()
    (tmp_path / "f.txt").write_bytes(raw)
    for words in ([text], ["--file", str(tmp_path / "f.txt")], []):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        assert main(["predict", model, *words]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        answers.append(out)
    assert answers[0] == answers[1] == answers[2]
    assert text.replace('"', '""') in answers[0]


def test_what_powershell_pipes(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """UTF-16 with its mark; a file without one that is no UTF-8 is still refused."""
    (tmp_path / "f.txt").write_bytes("café win now\r\n".encode("utf-16"))
    assert main(["predict", model, "--file", str(tmp_path / "f.txt")]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("\tcafé win now")
    (tmp_path / "f.txt").write_bytes("café win now\n".encode("latin-1"))
    assert main(["predict", model, "--file", str(tmp_path / "f.txt")]) == 2
    assert "not valid UTF-8 (byte 3)" in capsys.readouterr().err


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_any_text_is_a_message_of_a_table(ending: str, tmp_path: Path) -> None:
    """As it was written, among others."""
    texts = [*TEXTS.values(), *(f"message {i}" for i in range(30))]
    frame, path = (
        pd.DataFrame({"label": ["a", "b"] * (len(texts) // 2) + ["a"] * (len(texts) % 2), "text": texts}),
        (tmp_path / f"mine{ending}"),
    )
    if ending == ".parquet":
        frame.to_parquet(path)
    elif ending.startswith(".json"):
        frame.to_json(path, orient="records", lines=ending == ".jsonl")
    else:
        frame.to_csv(path, sep="," if ending == ".csv" else "\t", index=False)
    assert read_table(path).frame.text.tolist() == texts


def test_half_a_pair_is_named(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("caf\udce9", "a\ud83d"):
        assert main(["predict", model, text]) == 2
        assert capsys.readouterr().err == "onechange: message 1 is not valid UTF-8\n"
        with pytest.raises(UsageError, match="not valid UTF-8"):
            check_message(text)
    (tmp_path / "f.jsonl").write_text(json.dumps({"label": "a", "text": "\ud83d"}) + "\n")
    with pytest.raises(UsageError, match="line 1: message 1 is not valid UTF-8"):
        read_table(tmp_path / "f.jsonl")
