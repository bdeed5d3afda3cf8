"""The interactive pieces, for a notebook with a kernel: make an ablation, read a message, LoRA by hand.

They work with ipywidgets 7.7 and 8. Nothing here holds the kernel up for longer than reading one message
takes: training has a thread of its own.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from typing import Any

import ipywidgets as ipw
import torch
from torch import nn

from ..classifier.reading import classifier, read
from ..data.messages import messages_of
from ..experiment.experiment import BASELINE, Experiment, choices_of, names
from ..experiment.fields import SUGGESTED, explained, idle, kinds, parse, settle
from ..experiment.rows import TABLE
from ..gpt.lora import SCALINGS, LoRALinear
from ..gpt.model import Block
from ..support.errors import UsageError
from ..training.build import trunk
from ..training.result import Result
from ..training.store import PrefixStore
from ..training.train import run
from . import panels, plot

TRAINING = threading.Lock()  # one run at a time: they draw from PyTorch's one generator of random numbers


class Fields(ipw.VBox):
    """The fields of an experiment as controls, made from the dataclass itself.

    A field that could have no effect on the experiment so far rests at its default and says why.

    Args:
        base: where the controls start.

    Attributes:
        changed: called whenever they say something else.
        experiment: what the controls say, or ``None`` where that is no experiment.
        error: why not, in one line.
        controls: the control of each field.
    """

    def __init__(self, base: Experiment) -> None:
        self.default = Experiment(model_size=base.model_size)
        self.experiment: Experiment | None = base
        self.error = ""
        self.changed: Callable[[], object] = lambda: None
        self.controls = {name: _control(name, getattr(base, name)) for name in names()}
        self._notes = {name: ipw.HTML() for name in names()}
        self._settling = False
        for control in self.controls.values():
            control.observe(lambda _: self._settle(), "value")
        tabled = {name for row in TABLE.values() for name in row.change}
        fixed = ipw.Accordion([self._grid([name for name in names() if name not in tabled])], selected_index=None)
        fixed.set_title(0, "What the table held fixed")
        super().__init__([self._grid([name for name in names() if name in tabled]), fixed])
        self._settle()

    def show(self, e: Experiment) -> None:
        """Move the controls to an experiment."""
        self._settling = True
        for name, control in self.controls.items():
            control.value = _shown(control, getattr(e, name))
        self._settling = False
        self._settle()

    def _grid(self, fields: list[str]) -> ipw.GridBox:
        cells = [ipw.VBox([self.controls[name], self._notes[name]]) for name in fields]
        columns = "repeat(auto-fill, minmax(min(100%, 300px), 1fr))"
        return ipw.GridBox(cells, layout=ipw.Layout(grid_template_columns=columns, grid_gap="8px 20px"))

    def _settle(self) -> None:
        """Read the controls, and put those at rest that could have no effect."""
        if self._settling:  # it is this method that moves them
            return
        self._settling = True
        told = {name: control.value for name, control in self.controls.items()}
        free = {name: isinstance(control, ipw.Text) for name, control in self.controls.items()}
        wanted = {name: parse(name, value) if free[name] else value for name, value in told.items()}
        e, refused = settle(self.default, wanted)
        reasons = {name: idle(e, name) for name in names()}
        for name, control in self.controls.items():
            control.disabled = bool(reasons[name])
            if reasons[name]:
                control.value = _shown(control, getattr(self.default, name))
            self._notes[name].value = panels.note(reasons[name] or explained()[name])
        wrong = [why for name, why in refused.items() if not reasons[name]]
        self.experiment, self.error = (None, wrong[0]) if wrong else (e, "")
        self._settling = False
        self.changed()


def _control(name: str, value: Any) -> ipw.Widget:
    """A control for a field: a list of choices, a box to tick, a number, or a text with suggestions."""
    common = {"description": name, "style": {"description_width": "initial"}, "layout": ipw.Layout(width="auto")}
    choices, types = [*choices_of(name)], kinds(name)
    if types == (str,):
        choices = list(dict.fromkeys([*SUGGESTED[name], value]))
    if choices:
        return ipw.Dropdown(options=choices, value=value, **common)
    if types == (bool,):
        return ipw.Checkbox(value=value, indent=False, **common)
    if types in ((int,), (float,)):
        return (ipw.IntText if types == (int,) else ipw.FloatText)(value=value, continuous_update=False, **common)
    open_end = {"value": "" if value is None else str(value), "placeholder": "default", "continuous_update": False}
    return (
        ipw.Combobox(options=SUGGESTED[name], **open_end, **common)
        if name in SUGGESTED
        else ipw.Text(**open_end, **common)
    )


def _shown(control: ipw.Widget, value: Any) -> Any:
    """A field's value as its control holds it."""
    return ("" if value is None else str(value)) if isinstance(control, ipw.Text) else value


class MakeAblation(ipw.VBox):
    """Choose an experiment, run it live, stop it, and compare what was run.

    Args:
        base: where the controls start: row 1 on the pocket scale unless given.

    Attributes:
        runs: the :class:`~onechange.training.result.Result` of every finished run, in order.
        thread: what trains, or trained last.
    """

    def __init__(self, base: Experiment | None = None) -> None:
        self.base = BASELINE.at("pocket") if base is None else base
        self.runs: list[Result] = []
        self.thread: threading.Thread | None = None
        self._running, self._state = False, threading.RLock()
        self._asked, self._prefixes = threading.Event(), PrefixStore()
        self._drawing = self._draw_again = 0.0
        rows = [(f"row {number}: {row.title}", number) for number, row in TABLE.items()]
        self.row = ipw.Dropdown(options=rows, description="start from")
        self.go = ipw.Button(description="Run", style={"font_weight": "bold"}, tooltip="finetune with these options")
        self.halt = ipw.Button(description="Stop", tooltip="end the run")
        self.bar = ipw.FloatProgress(min=0, max=1, description="progress")
        self.command, self.status, self.curve, self.table = ipw.HTML(), ipw.HTML(), ipw.HTML(), ipw.HTML()
        self.fields = Fields(self.base)
        self.fields.changed = self._ready
        self.row.observe(lambda _: self._start_from(self.row.value), "value")
        self.go.on_click(lambda _: self._begin())
        self.halt.on_click(lambda _: self._end())
        buttons = ipw.HBox([self.go, self.halt, self.bar], layout=ipw.Layout(flex_flow="row wrap"))
        super().__init__([self.row, self.fields, self.command, buttons, self.status, self.curve, self.table])
        self._ready()

    def _start_from(self, row: int) -> None:
        """A row's change on top of the base, on the base's ladder."""
        try:
            e = self.base.but(**TABLE[row].change)
            self.fields.show(e if self.base.scale == "folder" else e.at(self.base.scale))
        except UsageError as error:
            self.status.value = panels.message(f"row {row}: {error}", alarm=True)

    def _ready(self) -> None:
        """Run can be pressed where there is something to run, Stop where something is running."""
        with self._state:
            e = self.fields.experiment
            self.go.disabled, self.halt.disabled = self._running or e is None, not self._running
            self.command.value = panels.message(self.fields.error if e is None else e.command, alarm=e is None)

    def _begin(self) -> None:
        with self._state:
            e = self.fields.experiment
            if self._running or e is None:
                return
            self._running = True
            self._asked.clear()
            self._ready()
        self._drawing = self._draw_again = self.bar.value = 0.0
        self.status.value = panels.message("Preparing the messages and the frozen part of the model.")
        self.thread = threading.Thread(target=self._train, args=(e,), daemon=True)
        self.thread.start()

    def _end(self) -> None:
        self.status.value = panels.message("Stopping.")
        self._asked.set()

    def _train(self, e: Experiment) -> None:
        """What the thread does: one run, and a line on how it ended."""
        try:
            words = self._run(e)
        except UsageError as error:
            words = str(error)
        except Exception as error:  # from here nobody else would hear of it
            words = f"The run failed: {type(error).__name__}: {error}"
        self.status.value = panels.message(words)
        with self._state:
            self._running = False
            self._ready()

    def _run(self, e: Experiment) -> str:
        while not TRAINING.acquire(timeout=0.1):
            if self._asked.is_set():
                return "Stopped before it began."
        try:
            n = len(messages_of(e).train)
            result = run(
                e, progress=False, store=self._prefixes, stop=self._asked.is_set,
                watch=lambda so_far: self._watch(so_far, n * e.num_epochs),
            )  # fmt: skip
        finally:
            TRAINING.release()
        if result.error:
            return f"Ended early, and left out of the comparison: {result.error}."
        result.seconds -= self._drawing
        self.runs.append(result)
        self.bar.value = 1.0
        self._draw()
        self.table.value = panels.comparison(self.runs, self.base)
        return f"Done: {result}"

    def _watch(self, so_far: Result, total: int) -> None:
        """Show how far the run is. Drawing gets a fifth of the time at most, and does not count as the run's."""
        self.bar.value = so_far.examples[-1] / total
        losses = f"training loss {so_far.train_losses[-1]:.2f}, validation loss {so_far.val_losses[-1]:.2f}"
        self.status.value = panels.message(f"Step {so_far.steps[-1]}: {losses}")
        began = time.perf_counter()
        if began >= self._draw_again:
            self._draw(so_far)
            took = time.perf_counter() - began
            self._drawing += took
            self._draw_again = began + 5 * took

    def _draw(self, *so_far: Result) -> None:
        """The curves: the baseline first, then the last three runs, the one under way among them."""
        base = self.base.resolved()
        runs = [*sorted(self.runs, key=lambda result: result.experiment != base), *so_far]
        self.curve.value = plot.losses(runs[0], *runs[1:][-3:])._repr_html_()


class ReadMessage(ipw.VBox):
    """Type a message; see what finetuned models make of it, side by side.

    Args:
        runs: results that still have their models, one or more.
        text: the message to begin with.
    """

    def __init__(self, *runs: Result, text: str = "You have won a free phone! Reply YES to claim it today.") -> None:
        if not runs:
            raise UsageError("there is nothing to read with: give the results of one run or more")
        self.models = [classifier(result) for result in runs]
        self.titles = panels.differences([result.experiment for result in runs])
        self.text = ipw.Textarea(
            value=text, description="message", continuous_update=False, layout=ipw.Layout(width="98%")
        )
        self.go = ipw.Button(description="Read it", style={"font_weight": "bold"}, tooltip="ask the models")
        self.view = ipw.HTML()
        self.go.on_click(lambda _: self._read())
        super().__init__([self.text, self.go, self.view])
        self._read()

    def _read(self) -> None:
        try:
            found = [read(model, self.text.value) for model in self.models]
            self.view.value = panels.readings(list(zip(self.titles, found, strict=True)))
        except UsageError as error:
            self.view.value = panels.message(str(error), alarm=True)


class LoRAByHand(ipw.VBox):
    """What LoRA adds to one weight, for a rank, an alpha and a scaling of one's choice.

    The weight is the query's in the last block. ``B`` starts at zero, so that nothing is changed before
    training; here random numbers stand where training would put its own.

    Args:
        base: an experiment that names the model: pocket-small unless given.
    """

    def __init__(self, base: Experiment | None = None) -> None:
        self.model = trunk(BASELINE.at("pocket") if base is None else base)
        block = self.model.blocks[-1]
        assert isinstance(block, Block)
        self.layer = copy.deepcopy(block.attn.query).double()  # so that zero is zero
        style = {"description_width": "5em"}
        self.rank = ipw.IntSlider(
            8, 1, self.layer.in_features, description="rank", continuous_update=False, style=style
        )
        self.alpha = ipw.FloatSlider(8, min=1, max=32, description="alpha", continuous_update=False, style=style)
        self.scaling = ipw.Dropdown(options=list(SCALINGS), description="scaling", style=style)
        self.view = ipw.HTML()
        for control in (self.rank, self.alpha, self.scaling):
            control.observe(lambda _: self._show(), "value")
        super().__init__([self.rank, self.alpha, self.scaling, self.view])
        self._show()

    @torch.no_grad()
    def _show(self) -> None:
        rank, scale = self.rank.value, SCALINGS[self.scaling.value](self.alpha.value, self.rank.value)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(123)
            adapter = LoRALinear(self.layer, rank, scale).double()
            nn.init.normal_(adapter.B, std=0.02)
        linear = [part.weight.shape for part in self.model.modules() if isinstance(part, nn.Linear)]
        self.view.value = panels.lora(self.layer.weight.numpy(), adapter.delta().numpy(), rank, scale, linear)
