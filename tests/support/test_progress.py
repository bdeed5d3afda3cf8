"""Progress bars show where they should, and not on a page."""

import io

import pytest

from onechange.support.progress import progress_bar


@pytest.mark.parametrize(("show", "variable", "hidden"), [(True, "", False), (True, "1", True), (False, "", True)])
def test_bars_heed_the_caller_and_the_environment(
    show: bool, variable: str, hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hidden when not asked for, and where ``TQDM_DISABLE`` is set, as the book's build sets it."""
    monkeypatch.setenv("TQDM_DISABLE", variable)
    said = io.StringIO()
    with progress_bar(show, total=2, file=said) as bar:
        assert bar.disable == hidden
    assert (said.getvalue() == "") == hidden
