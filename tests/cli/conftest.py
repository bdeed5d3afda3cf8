"""A folder to stand in, and command lines that must be refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_lines import snapshot

from onechange.cli.main import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def refused(tmp_path: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must fail: status 2, one line on standard error, nothing else anywhere."""

    def check(*argv: object) -> str:
        before = snapshot(tmp_path)
        capsys.readouterr()
        status = main([str(word) for word in argv])
        out, err = capsys.readouterr()
        assert status == 2
        assert out == ""
        assert err.startswith("onechange: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        assert snapshot(tmp_path) == before
        return err

    return check
