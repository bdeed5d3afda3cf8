"""The page that finetunes: what it is given, and what a reader does there.

Every test of the page runs on a page of its own, opened from the disk, and on the built book (marked ``book``).
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pages import BUILD, PHONE, ROOT, load, need

import onechange as oc
from onechange.data.messages import load_messages
from onechange.evidence.intervals import estimate
from onechange.training.build import build

BOOK = ROOT / "book"
MINUTES = 240_000  # milliseconds to wait at most, on a busy machine


@pytest.fixture(scope="module")
def finetune() -> ModuleType:
    return load("finetune")


@pytest.fixture(scope="module")
def own_page(finetune: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's HTML, scripts and styles, and what the package gives it."""
    folder = tmp_path_factory.mktemp("page")
    made = folder / "_static" / "finetune"
    made.mkdir(parents=True)
    for path in (BOOK / "_assets").glob("*.*"):
        (folder / "_static" / path.name).symlink_to(path)
    finetune.make(made)
    blocks = re.findall(r"```\{raw\} html\n(.*?)```", (BOOK / "finetune.md").read_text(encoding="utf-8"), re.DOTALL)
    head = '<link rel="stylesheet" href="_static/book.css" />'
    start = '<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8" /><title>Run</title>'
    body = f'<body><article class="bd-article">{"".join(blocks)}</article></body>'
    page = folder / "finetune.html"
    page.write_text(f"{start}{head}{body}</html>", encoding="utf-8")
    return page


Open = Callable[..., Any]


@pytest.fixture(params=["own", pytest.param("book", marks=pytest.mark.book)])
def visited(request: pytest.FixtureRequest, browser, own_page: Path) -> Iterator[Open]:
    """Opens the page from the disk; what follows the address comes as an argument."""
    if request.param == "book":
        need((BUILD / "finetune.html").exists(), "there is no built book: run `make book` first")
    address = (BUILD / "finetune.html" if request.param == "book" else own_page).as_uri()
    errors: list[str] = []
    contexts = []

    def visit(more: str = "", **settings: Any):
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: message.type == "error" and errors.append(message.text))
        page.goto(f"{address}{more}")
        page.wait_for_selector("#tune:visible, #tune-problem:visible")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert errors == []


def rest(page) -> None:
    page.wait_for_function(
        "document.getElementById('tune-now').textContent.startsWith('At rest')"
        " && !document.getElementById('tune-go').disabled",
        timeout=MINUTES,
    )


def put_own(page, text: str) -> None:
    """A reader's own messages, as if pasted: typing them takes a browser long."""
    script = "(text) => { const box = document.querySelector('textarea#tune-own'); box.value = text; "
    page.evaluate(script + "box.dispatchEvent(new Event('input', { bubbles: true })); }", text)


def exported(page) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.click("#tune-csv")
    return list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))


QUICK = "#train_size=48&num_epochs=2&change=2&seeds=3"  # row 2 reads one token; the baseline all


def finished(rows: list[dict[str, str]]) -> dict[str, list[str]]:
    """The seeds that each side has done."""
    return {
        side: [row["seed"] for row in rows if row["side"] == side and row["test"]] for side in ("baseline", "change")
    }


def short() -> pd.DataFrame:
    """Some short messages, which take no time."""
    frame = load_messages("pocket").train
    return frame[frame.text.str.len() < 60][:80].assign(label=lambda x: x.label.map({0: "okay", 1: 'a "quoted" one'}))


def with_short(page):
    frame = short()
    put_own(page, "\n".join(f"{k}, {text}" for k, text in zip(frame.label, frame.text, strict=True)))
    return page


def test_train_stop_and_further_seeds_on_a_phone(visited: Open) -> None:
    page = with_short(visited(QUICK, viewport=PHONE))
    page.select_option("#tune-seeds", "100")
    page.focus("#tune-go")
    page.keyboard.press("Enter")
    page.wait_for_function("document.getElementById('tune-verdict').textContent.includes(' 2 seeds,')", timeout=MINUTES)
    assert page.evaluate("document.querySelectorAll('#tune-curves-0 path[d^=M]').length") >= 4
    page.click("#tune-stop")
    rest(page)
    done = finished(exported(page))
    page.select_option("#tune-change", "17")  # another choice does not rename what was trained
    assert page.inner_text("#tune-name-1") == "row 2, first token"
    assert page.inner_text("#tune-verdict").startswith("row 2, first token")
    page.select_option("#tune-change", "2")
    assert 2 <= len(done["baseline"]) < 100
    assert len(done["change"]) < 100
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]

    more = next(n for n in (3, 5, 10, 20, 50, 100) if n > max(map(len, done.values())))
    page.select_option("#tune-seeds", str(more))
    page.click("#tune-go")
    rest(page)
    assert finished(exported(page)) == {side: [str(123 + i) for i in range(more)] for side in done}
    assert f"{more} seeds" in page.inner_text("#tune-verdict")
    page.click("#tune-go")
    assert page.inner_text("#tune-wrong").startswith("These seeds are done.")


@pytest.mark.slow
def test_the_numbers_are_pythons(visited: Open, finetune: ModuleType) -> None:
    page = visited(QUICK)
    page.click("#tune-go")
    rest(page)
    base = finetune.start().but(train_size=48, num_epochs=2, precision="fp32")
    sides = {"baseline": base, "change": base.but(trainable_token_pos="first")}
    rows = exported(page)
    right: dict[str, list[np.ndarray]] = {}
    labels = load_messages("pocket").test.label.to_numpy()
    for side, e in sides.items():
        for seed in (123, 124, 125):
            result = oc.run(e, seed=seed, device="cpu", progress=False)
            mine = [row for row in rows if (row["side"], row["seed"]) == (side, str(seed))]
            losses = [[float(row["train"]), float(row["validation"])] for row in mine if row["what"] == "loss"]
            np.testing.assert_allclose(losses, np.array([result.train_losses, result.val_losses]).T, atol=1e-3)
            [test] = [float(row["test"]) for row in mine if row["test"]]
            assert test == pytest.approx(result.final["test"], abs=0.0026)  # one message
            right.setdefault(side, []).append(result.test_predictions == labels)
    d = np.array(right["change"], float) - np.array(right["baseline"])
    found = re.findall(r"[+−]?[0-9.]+", page.inner_text("#tune-verdict").split("\n")[-1])
    shown = [float(x.replace("−", "-")) for x in found]
    want = estimate(d)
    np.testing.assert_allclose(shown, [100 * want.mean, 100 * want.low, 100 * want.high], atol=0.4)
    listed = page.evaluate("[...document.querySelectorAll('#tune-seedwise tr')].map((tr) => tr.cells[0].textContent)")
    assert listed == ["123", "124", "125"]


SETTINGS = [
    ("#", {}, {"trainable_token_pos": "flexible"}),
    ("#train_size=99&weight_decay=0&change=17", {"train_size": 99, "weight_decay": 0}, {"disable_causal_mask": True}),
    ("#label_noise=0.1&num_epochs=3&change=pad-mask", {"label_noise": 0.1, "num_epochs": 3}, {"mask_padding": True}),
    ("#change=learning_rate&value=0.01", {}, {"learning_rate": 0.01}),
    ("#change=train_size&value=100", {}, {"train_size": 100}),
]


@pytest.mark.parametrize(("address", "base", "change"), SETTINGS, ids=[a[1:] or "start" for a, *_ in SETTINGS])
def test_a_setting_stands_in_the_address_and_has_its_commands(
    address: str, base: dict, change: dict, visited: Open, finetune: ModuleType
) -> None:
    page = visited(address)
    first = finetune.start().but(**base)
    both = [first, first.but(**change)]
    for at, e in enumerate(both):
        assert page.text_content(f"#tune-command-{at}") == e.but(dataset=None).command
    found: dict[str, Any] = {}
    code = page.text_content("#tune-python")
    exec(code.rpartition("\n")[0], found)
    assert [found["base"].resolved(), found["change"].resolved()] == [e.resolved() for e in both]
    assert "seeds=5" in code
    page.select_option("#tune-seeds", "20")
    again = visited(page.evaluate("location.hash"))
    assert again.text_content("#tune-python") == page.text_content("#tune-python")
    assert again.input_value("#tune-seeds") == "20"


WRONG = [
    ("ham, one\nham, two", "There is one class (ham): at least two are needed."),
    ("ham, one\n\nspam, two", "Line 2 is empty."),
    ("ham, one\nspam two", "Line 2 has no comma between a label and a text."),
    (", one", "Line 1 has no label."),
    ("ham,", "Line 1 has no text."),
    ("ham, a <|endoftext|>", "Line 1 contains <|endoftext|>, which marks the end of a text."),
    ("\n".join(f"ham, {i}" for i in range(5000)), "There are 5,000 lines: this page takes at most 2,000"),
    ("\n".join(f"{k}, text" for k in "ab" * 9), "The class a has 9 messages: at least 10 of each are needed."),
    ("\n".join(f"{k}, text" for k in "ab" * 30), "There are 42 training messages, not 400: ask for fewer."),
    ("\n".join(f"{k}, {'word ' * 400}" for k in "ab" * 300), "The longest message has "),
]  # fmt: skip


def test_wrong_input_is_answered_in_words(visited: Open) -> None:
    page = visited()
    page.click(".tune-own summary")
    for text, words in WRONG:
        put_own(page, text)
        page.click("#tune-go")
        assert page.inner_text("#tune-wrong")[:120].startswith(words)
        assert page.is_enabled("#tune-go")
    put_own(page, "")
    for field, value, words in (
        ("train_size", "1401", "The training messages must be a whole number from 16 to 1400."),
        ("num_epochs", "1.5", "The epochs must be a whole number from 1 to 20."),
        ("learning_rate", "", "The learning rate must be a number from 0.000001 to 1."),
    ):
        before = page.input_value(f"#tune-{field}")
        page.fill(f"#tune-{field}", value)
        page.click("#tune-go")
        assert page.inner_text("#tune-wrong") == words
        page.fill(f"#tune-{field}", before)
    page.select_option("#tune-change", "weight_decay")
    page.click("#tune-go")
    assert page.inner_text("#tune-wrong") == "Both sides have the same weight decay."


def test_a_readers_own_messages_are_trained_on(visited: Open, tmp_path: Path, finetune: ModuleType) -> None:
    page = with_short(visited("#train_size=40&num_epochs=1&change=16&seeds=3"))
    page.click(".tune-own summary")
    with page.expect_download() as download:
        page.click("#tune-file")
    file = tmp_path / "messages.csv"
    download.value.save_as(file)
    page.click("#tune-go")
    rest(page)
    rows = [row for row in exported(page) if row["side"] == "change" and row["seed"] == "123"]
    change = {"trainable_token_pos": "flexible", "dataset": str(file), "precision": "fp32"}
    result = oc.run(finetune.start().but(train_size=40, num_epochs=1, **change), device="cpu", progress=False)
    assert [float(row["test"]) for row in rows if row["test"]] == [pytest.approx(result.final["test"])]
    losses = [float(row["train"]) for row in rows if row["what"] == "loss"]
    np.testing.assert_allclose(losses, result.train_losses, atol=1e-3)
    assert page.inner_text("#tune-stored") == ""
    assert "okay" not in page.url


def test_little_is_loaded_before_train_is_pressed(visited: Open, own_page: Path) -> None:
    page = visited("")
    loaded = page.evaluate("[...document.scripts].map((script) => script.src)")
    assert any(name.endswith("finetune/index.js") for name in loaded)
    assert [name for name in loaded if "pretrained" in name] == []
    everything = [path for path in own_page.parent.rglob("*") if path.suffix in (".js", ".css", ".html")]
    assert sum(path.stat().st_size for path in everything if path.name != "pretrained.js") < 1e6
    assert sum(path.stat().st_size for path in everything) < 4e6


def test_what_a_browser_lacks_is_told(browser, own_page: Path) -> None:
    for script, words in (("delete window.Worker", "threads"), ("delete window.DecompressionStream", "newer browser")):
        page = browser.new_page()
        page.add_init_script(script)
        page.goto(own_page.as_uri())
        assert page.locator("#tune-problem", has_text=words).is_visible()
        assert page.locator("#tune").is_hidden()
        page.close()
    page = browser.new_page()
    page.route("**/finetune/index.js", lambda route: route.abort())
    page.goto(own_page.as_uri())
    assert page.locator("#tune-problem", has_text="make book").is_visible()
    page.close()
    page = browser.new_page()
    page.route("**/pretrained.js*", lambda route: route.abort())
    page.goto(own_page.as_uri())
    page.click("#tune-go")
    page.wait_for_selector("#tune-wrong:visible")
    assert "could not start: pretrained.js" in page.inner_text("#tune-wrong")
    assert page.is_enabled("#tune-go")
    page.close()


def test_nothing_moves_for_those_who_asked_for_it(visited: Open) -> None:
    page = with_short(visited(QUICK, reduced_motion="reduce"))
    page.evaluate(
        """() => {
          window.redraws = 0;
          const count = new MutationObserver(() => window.redraws++);
          count.observe(document.getElementById("tune-curves-1"), { childList: true });
        }"""
    )
    page.click("#tune-go")
    rest(page)
    assert page.evaluate("window.redraws") <= 3 * 2 + 4  # a seed of either side, the start and the ends


def test_for_the_projector_the_panel_stands_alone(visited: Open) -> None:
    page = visited("?present#change=3")
    assert page.evaluate("document.documentElement.classList.contains('present')")
    assert page.input_value("#tune-change") == "3"
    assert page.is_visible("#tune-go")
    size = "parseFloat(getComputedStyle(document.getElementById('tune')).fontSize)"
    assert page.evaluate(size) > 1.3 * visited().evaluate(size)


# The book's page alone.


@pytest.mark.book
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_in_use_can_be_read_by_everyone(theme: str, server: str, visit: Callable) -> None:
    need((BUILD / "finetune.html").exists(), "there is no built book: run `make book` first")
    from axe_playwright_python.sync_playwright import Axe

    page = visit(f"{server}/finetune.html{QUICK}", theme=theme)
    page.click("#tune-go")
    rest(page)
    for summary in page.locator("#tune summary").all():
        summary.click()
    found = Axe().run(page, options={"resultTypes": ["violations"], "preload": False}).response["violations"]
    bad = [(v["id"], v["nodes"][0]["html"][:200]) for v in found if v["impact"] in ("serious", "critical")]
    assert bad == []
    assert "3 seeds done. Difference " in page.text_content("#tune-status")


@pytest.mark.book
def test_no_other_page_trains(build: Path) -> None:
    others = [path for path in build.glob("*.html") if path.name != "finetune.html"]
    assert [path.name for path in others if "tune.js" in path.read_text()] == []


def test_the_index_is_json_and_says_what_is_stored(own_page: Path, finetune: ModuleType) -> None:
    text = (own_page.parent / "_static" / "finetune" / "index.js").read_text(encoding="utf-8")
    index = json.loads(text.removeprefix("const FINETUNE = ").partition(";\nconst PARTS")[0])
    rows = oc.stored("table-pocket")
    for row in ("2", "3", "16", "17"):
        d = oc.difference(rows["1"], rows[row]).difference
        kept = index["stored"][row]
        assert (kept["mean"], kept["seeds"]) == (pytest.approx(100 * d.mean), d.seeds)
    assert index["start"] == finetune.setting(finetune.start()) | {"dataset": None}
    assert "</" not in text


def test_the_numbers_in_the_text_are_counted(finetune: ModuleType) -> None:
    rows = {row: finetune.start().but(**change) for row, change in (("1", {}), ("3", finetune.row_of("3").change))}
    trained = {row: sum(p.numel() for p in build(e, 2).parameters() if p.requires_grad) for row, e in rows.items()}
    words = f"trains {trained['3']} numbers instead of {trained['1']:,}"
    assert words in (BOOK / "lessons.md").read_text(encoding="utf-8")
    assert words.replace("trains", "changes") in (BOOK / "finetune.md").read_text(encoding="utf-8")
    form = (BOOK / "finetune.md").read_text(encoding="utf-8")
    start = finetune.setting(finetune.start())
    for name in ("train_size", "num_epochs", "learning_rate", "weight_decay", "label_noise"):
        assert re.search(rf'id="tune-{name}".* value="{start[name]:g}"', form)
    most = len(load_messages("pocket").train)
    assert f'max="{most}"' in form
