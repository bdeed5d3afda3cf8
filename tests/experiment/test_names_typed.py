"""Models and places as people type them. Thought of: the Hub's own names with and without a folder of that name here,
the package's names with one, a home folder's ``~`` where an option takes a path, a path object, a space, a link."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from onechange import Experiment, UsageError
from onechange.cli.main import main
from onechange.evidence.study import Store
from onechange.support.cache import root
from onechange.support.files import home


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt2", "gpt2-small"),
        ("openai-community/gpt2", "gpt2-small"),
        ("openai-community/gpt2-medium", "gpt2-medium"),
    ],
)
def test_a_folder_with_a_name_of_the_hubs(
    name: str, model: str, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Either could be meant: one line says how to name the one and the other, and both names then work."""
    monkeypatch.chdir(tmp_path)
    assert Experiment(name).model_size.startswith(f"{model} ")
    shutil.copytree(toy, tmp_path / name)
    with pytest.raises(UsageError, match=f"a folder {name} lies here: say {model} for the model, or ./{name}"):
        Experiment(name)
    assert main(["run", "--model_size", name]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert Experiment(model).model_size.startswith(f"{model} ")
    assert Experiment(f"./{name}").checkpoint.shape.emb_dim == 32


def test_the_packages_own_names_are_its_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toy: Path) -> None:
    """Whatever lies here: there is no other way to name them."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(toy, "pocket-small")
    assert Experiment("pocket-small").checkpoint.shape.emb_dim == 128
    assert Experiment("./pocket-small").checkpoint.shape.emb_dim == 32


def test_openais_own_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the source book's script downloads into ``gpt2/124M`` is TensorFlow's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2" / "124M").mkdir(parents=True)
    (tmp_path / "gpt2" / "124M" / "hparams.json").write_text("{}")
    with pytest.raises(UsageError, match=r"say gpt2-small for the model, or \./gpt2 for the folder"):
        Experiment("gpt2")
    with pytest.raises(UsageError, match="OpenAI's GPT-2"):
        Experiment("./gpt2")


def test_home_in_every_place(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``~`` as a shell leaves it behind an equals sign; a space and a link on the way; an unknown user's stays."""
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(toy, tmp_path / "my models" / "toy")
    (tmp_path / "link").symlink_to(tmp_path / "my models")
    for name in ("~/my models/toy", "~/link/toy", Path("~/link/toy")):
        assert Experiment(name).checkpoint.shape.emb_dim == 32  # type: ignore[arg-type]
    assert Store("~/r").folder == tmp_path / "r"
    monkeypatch.setenv("ONECHANGE_CACHE", "~/cache")
    assert root() == tmp_path / "cache"
    assert home("~nobody-of-that-name/x") == "~nobody-of-that-name/x"


def test_home_on_the_command_line(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """To save, to ask, and to read messages from."""
    monkeypatch.setenv("HOME", str(tmp_path))
    words = [f"--model_size={toy}", "--dataset=pocket", "--train_size=16", "--num_epochs=1", "--save=~/M"]
    assert main(["run", *words, "--trainable_layers=last_layer"]) == 0
    (tmp_path / "messages.txt").write_text("hello\n")
    capsys.readouterr()
    assert main(["predict", "~/M", "--file=~/messages.txt"]) == 0
    assert "hello" in capsys.readouterr().out
