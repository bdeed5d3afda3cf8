"""The command ``onechange doctor``: a model, a data set, or both, looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ..support.errors import UsageError
from ..support.files import home


@dataclass
class Doctor:
    """Say what is wrong with a model or with messages, how sure that is, and what to do about it."""

    model: Annotated[str | None, tyro.conf.Positional] = None
    """A folder that `onechange run --save` wrote, a GPT2- or LlamaForSequenceClassification of Hugging Face's, or the
    source book's review_classifier.pth."""
    dataset: str | None = None
    """The messages: uci, pocket or a file. Unless given: those that the model was trained on, where that is known."""
    length: int | None = None
    """Tokens to which a checkpoint of the source book was padded. Unless given: the longest training message."""
    seed: int | None = None
    """What splits a file. Unless given: the seed that the model was trained with, or 123."""
    json: bool = False
    """Print one JSON object."""
    html: Path | None = None
    """Write the report to this file too, one page that needs nothing from outside."""
    book: str | None = None
    """With --html: where the book is; its chapters are linked there."""

    def __call__(self) -> int:
        from ..diagnosis.doctor import doctor
        from ..diagnosis.report import check_target

        if self.html is not None:
            check_target(Path(home(self.html)))
        elif self.book is not None:
            raise UsageError("book has no effect without --html")
        report = doctor(self.model, self.dataset, length=self.length, seed=self.seed)
        if self.html is not None:
            report.save(self.html, self.book or "")
        print(report.to_json() if self.json else report)
        return 0
