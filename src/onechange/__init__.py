"""One Change at a Time: what matters when you finetune a GPT.

>>> import onechange as oc
>>> change = oc.BASELINE.at("pocket").but(trainable_token_pos="first")
>>> result = oc.run(change, seed=123)  # doctest: +SKIP
"""

from . import plot
from .errors import UsageError
from .experiment import BASELINE, Experiment
from .result import Result
from .rows import ROWS, published
from .train import run

__version__ = "0.1.0"
__all__ = ["BASELINE", "ROWS", "Experiment", "Result", "UsageError", "plot", "published", "run"]
