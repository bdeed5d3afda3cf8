"""One Change at a Time: what matters when you finetune a GPT.

>>> import onechange as oc
>>> change = oc.BASELINE.at("pocket").but(trainable_token_pos="first")
>>> result = oc.run(change, seed=123)  # doctest: +SKIP
"""

from . import plot
from .claims import findings
from .compare import against_baseline, compare, difference
from .errors import UsageError
from .experiment import BASELINE, Experiment
from .intervals import accuracy
from .result import Result
from .rows import ROWS, published
from .runs import Runs, stored
from .scale import scale
from .train import run

__version__ = "0.1.0"
__all__ = [
    "BASELINE",
    "ROWS",
    "Experiment",
    "Result",
    "Runs",
    "UsageError",
    "accuracy",
    "against_baseline",
    "compare",
    "difference",
    "findings",
    "plot",
    "published",
    "run",
    "scale",
    "stored",
]
