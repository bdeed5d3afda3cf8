"""The command, the report as JSON and as a page, and what is refused."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from made_ill import messages, write
from safetensors.torch import save_file

import onechange as oc
from onechange.cli.main import main
from onechange.diagnosis.findings import ALARM, CHAPTERS, Check, Finding, settle
from onechange.diagnosis.report import Report
from onechange.support.errors import UsageError
from onechange.training.result import Result

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def report(sound: str) -> Report:
    return oc.doctor(dataset=sound, progress=False)


# -- findings -------------------------------------------------------------------------------------


def checked(p: float | None) -> Check:
    return Check(lambda shown: Finding(f"{p}", "act" if shown else "well", "a title", "so", "as sure"), p)


def test_tests_are_corrected_together_before_any_raises_an_alarm() -> None:
    """Alone each of these would; facts are no tests."""
    assert [f.level for f in settle([checked(0.9 * ALARM), checked(None)])] == ["act", "act"]
    found = settle([checked(0.9 * ALARM), checked(0.8 * ALARM), checked(None)])
    assert [f.level for f in found] == ["act", "well", "well"]
    assert found[0].p is None
    assert found[1].p == pytest.approx(1.6 * ALARM)
    assert "after Holm's correction for the 2 tests" in found[1].sure


def test_chapters_have_the_book_s_titles() -> None:
    for page, title in CHAPTERS.items():
        text = (ROOT / "book" / f"{page}.ipynb").read_text(encoding="utf-8")
        assert f'"# {title}' in text


# -- the command ----------------------------------------------------------------------------------


def test_the_command_says_it_in_words(sound: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--dataset", sound]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{Path(sound).name}\n360 messages, 2 classes")
    assert "Nothing to do something about" in out
    for words in ("measured: ", "how sure: ", "chapter: "):
        assert words in out


def test_the_command_says_it_in_json_and_writes_a_page(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    assert main(["doctor", str(folder), "--json", "--html", str(page), "--book", "https://example.org/book/"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["healthy"] is True
    assert {"key", "level", "title", "measured", "sure", "do", "chapter", "p", "values"} == set(said["findings"][0])
    assert {row["label"] for row in said["frames"]["scores"]} > {"the model", "counted characters"}
    text = page.read_text(encoding="utf-8")
    assert 'href="https://example.org/book/padding.html"' in text


# -- the page -------------------------------------------------------------------------------------


class Outside(HTMLParser):
    """What a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        fetched = {"src", "srcset", "data", "poster"} | ({"href"} if tag in ("link", "image", "script") else set())
        self.found += [(tag, value or "") for name, value in attrs if name in fetched]


def test_the_page_needs_nothing_from_outside(report: Report) -> None:
    parser, text = Outside(), report.to_html()
    parser.feed(text)
    assert parser.found == []
    assert not re.search(r"url\((?!#)|@import|<script", text)
    assert "prefers-color-scheme:dark" in text
    for finding in report.findings:
        assert finding.key
    assert text.count("<svg ") == 2 * len(report.figures)


def test_a_message_stays_text(tmp_path: Path) -> None:
    """Nothing in a file of messages becomes markup."""
    frame = messages()
    frame["text"] += " <img src=x onerror=alert(1)>"
    torn = frame[:3].assign(label=lambda f: f.label.map({"ham": "spam", "spam": "ham"}))
    both = [frame, torn]
    import pandas as pd

    text = oc.doctor(dataset=write(pd.concat(both), tmp_path / "m.csv"), progress=False).to_html()
    assert "<img" not in text
    assert "&lt;img" in text


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_opens_in_a_browser(theme: str, report: Report, chromium: Any, tmp_path: Path) -> None:
    """In both themes, without a request, an error or a page that is wider than a phone."""
    path = report.save(tmp_path / "report.html")
    page = chromium.new_page(viewport={"width": 390, "height": 844}, color_scheme=theme)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: asked.append(str(error)))
    page.goto(path.as_uri())
    assert asked == [path.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 30)"
    assert dark == (theme == "dark")
    page.close()


def test_in_a_notebook_it_shows_itself(report: Report) -> None:
    html = report._repr_html_()
    assert html.count("<details") == len(report.findings)
    assert "<html" not in html


# -- what is refused ------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["doctor", *map(str, words)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("onechange: ")
    assert err.count("\n") == 1
    return err


def test_nothing_to_look_at(capsys: pytest.CaptureFixture[str]) -> None:
    assert "needs a model, a dataset, or both" in refused(capsys)


def test_a_language_model_has_no_head(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    err = refused(capsys, toy)
    assert "has no head that classifies" in err
    assert "onechange run --save" in err
    assert "LlamaForSequenceClassification" in err
    assert "review_classifier.pth" in err


def test_another_architecture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    save_file({"score.weight": torch.zeros(2, 4)}, tmp_path / "model.safetensors")
    assert "model_type is 'bert', this package computes gpt2 and llama" in refused(capsys, tmp_path)


def test_a_pickle_that_needs_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "review_classifier.pth")
    err = refused(capsys, tmp_path / "review_classifier.pth")
    assert "this one needs code: save the model's state_dict()" in err


def test_messages_without_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.csv").write_text("text,date\nhello,1\n")
    assert "has no column 'label'" in refused(capsys, "--dataset", tmp_path / "m.csv")


def test_other_classes(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = messages().assign(label=lambda f: f.label + "!")
    assert "give the labels the same names" in refused(capsys, folder, "--dataset", write(frame, tmp_path / "m.csv"))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--dataset", "pocket", "--book", "x"], "book has no effect without --html"),
        (["--dataset", "pocket", "--length", "8"], "length has no effect without a model"),
        (["--dataset", "nowhere.csv"], "is not uci, pocket or a file that exists"),
        (["nowhere"], "there is no model"),
        (["--dataset", "pocket", "--html", "/nowhere/at/all.html"], "not a folder one may write to"),
    ],
)
def test_what_would_do_nothing(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert why in refused(capsys, *words)


def test_a_length_that_is_known(model: Result) -> None:
    with pytest.raises(UsageError, match="length has no effect"):
        oc.doctor(model, length=8)
