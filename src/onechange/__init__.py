"""One Change at a Time: what matters when you finetune a GPT.

>>> import onechange as oc
>>> change = oc.BASELINE.at("pocket").but(trainable_token_pos="first")
>>> result = oc.run(change, seed=123)  # doctest: +SKIP
"""

from .diagnosis.doctor import doctor
from .evidence.claims import findings
from .evidence.compare import against_baseline, compare, difference
from .evidence.intervals import accuracy
from .evidence.runs import Runs, stored
from .evidence.witnesses import conclusions
from .experiment.experiment import BASELINE, Experiment
from .experiment.rows import ROWS, published
from .scale import scale
from .show import plot
from .support.errors import UsageError
from .support.package import __version__ as __version__
from .training.result import Result
from .training.train import run

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
    "conclusions",
    "difference",
    "doctor",
    "findings",
    "plot",
    "published",
    "run",
    "scale",
    "stored",
]
