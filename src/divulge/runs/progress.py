"""What a person sees of a run while it is under way."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from divulge.runs.step import Step

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class Progress(ABC):
    """Told about a run by the process that drives it, from `start` to `stop`."""

    @abstractmethod
    def start(self, steps: Sequence[Step]) -> None:
        """A run begins that needs these steps, some of them perhaps stored already."""

    @abstractmethod
    def update(self, step: Step, fraction: float) -> None:
        """A step is under way, and this much of it is done, 0 to 1."""

    @abstractmethod
    def done(self, step: Step, seconds: float, cached: bool) -> None:
        """A step is stored; `cached` if it was there already or another run computed it."""

    @abstractmethod
    def stop(self) -> None:
        """The run is over, whether it succeeded or not."""


class Silent(Progress):
    """Says nothing."""

    def start(self, steps: Sequence[Step]) -> None:
        """Nothing."""

    def update(self, step: Step, fraction: float) -> None:
        """Nothing."""

    def done(self, step: Step, seconds: float, cached: bool) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class RichProgress(Progress):
    """In a terminal, a bar for the run and one for each step under way, with the time left; elsewhere a line a step.

    Args:
        console: where to write; standard error if left out.
    """

    def __init__(self, console: "Console | None" = None) -> None:
        from rich.console import Console

        self._console = console or Console(stderr=True)
        self._bars: Bars | None = None
        self._rows: dict[str, TaskID] = {}
        self._fractions: dict[str, float] = {}
        self._costs: dict[str, float] = {}
        self._finished = 0

    def start(self, steps: Sequence[Step]) -> None:
        """Draw the bar of the whole run, in units of the steps' expected cost."""
        from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self._costs = {step.key: step.cost for step in steps}
        self._fractions, self._rows, self._finished = {}, {}, 0
        if not self._console.is_terminal:
            return
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
        )
        self._rows[""] = self._bars.add_task(self._headline(), total=sum(self._costs.values()))
        self._bars.start()

    def update(self, step: Step, fraction: float) -> None:
        """Move the step's bar, drawing it if it is new."""
        self._fractions[step.key] = fraction
        if self._bars is None:
            return
        if step.key not in self._rows:
            self._rows[step.key] = self._bars.add_task(step.title, total=1.0)
        self._bars.update(self._rows[step.key], completed=fraction)
        self._overall(self._bars)

    def done(self, step: Step, seconds: float, cached: bool) -> None:
        """Remove the step's bar, or write its line."""
        self._fractions[step.key] = 1.0
        self._finished += 1
        if cached:
            self._costs[step.key] = (
                0.0  # took no time, and must not count in the speed from which the rest is estimated
            )
        if self._bars is None:
            took = "stored already" if cached else f"{seconds:.1f} s"
            line = f"[{self._finished}/{len(self._costs)}] {step.title}: {took}"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
            return
        if step.key in self._rows:
            self._bars.remove_task(self._rows.pop(step.key))
        self._overall(self._bars)

    def stop(self) -> None:
        """Take the bars off the terminal."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    def _overall(self, bars: "Bars") -> None:
        completed = sum(self._costs[key] * fraction for key, fraction in self._fractions.items())
        total = sum(self._costs.values())
        bars.update(self._rows[""], completed=completed, total=total, description=self._headline())

    def _headline(self) -> str:
        return f"{self._finished} of {len(self._costs)} steps"
