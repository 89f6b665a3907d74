"""The bar at the bottom of the terminal, drawn by a thread of rich's."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, cast

from rich.console import Console
from rich.live import Live
from rich.text import Text

if TYPE_CHECKING:
    from dltrain.callbacks.progress import Output

MIN_BAR, MAX_BAR = 8, 30
SPACE = "  "
DRAWS_PER_SEC = 4


class ProgressBar:
    """Draws a bar and as many of the `parts` as fit into one line of the terminal.

    Args:
        parts: called by the drawing thread: what to show beside the bar, what matters most first.
        progress: called by the drawing thread: from 0 to 1.
    """

    def __init__(
        self, output: Output, parts: Callable[[], list[str]], progress: Callable[[], float]
    ) -> None:
        self._parts, self._progress = parts, progress
        self._console = Console(file=cast(IO[str], output), highlight=False)
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=DRAWS_PER_SEC,
            transient=True,
            # What goes to stderr stays there: 2>errors.txt is not to end up on the screen.
            redirect_stderr=sys.stderr is not None and sys.stderr.isatty(),
        )
        self._live.start()
        atexit.register(self.close)  # a cursor that has been hidden is shown again

    def line(self, parts: list[str]) -> None:
        """Prints above the bar, what does not fit into a line left out."""
        text = "  ".join(fit(parts, self._console.width + len(SPACE)))
        self._console.print(text, markup=False, soft_wrap=True)

    def close(self) -> None:
        self._live.stop()
        atexit.unregister(self.close)

    def _draw(self) -> Text:
        ascii_only = not self._console.encoding.lower().startswith("utf")
        width = self._console.width - 1  # some terminals wrap when the last column is written
        return draw(self._progress(), self._parts(), width, ascii_only=ascii_only)


def draw(progress: float, parts: list[str], width: int, *, ascii_only: bool) -> Text:
    """One line of at most `width` columns; parts that do not fit are left out, the last first."""
    fitting = fit(parts, width - MIN_BAR)
    beside = "".join(SPACE + part for part in fitting)
    bar_width = max(0, min(MAX_BAR, width - len(beside)))
    num_done = round(bar_width * min(max(progress, 0.0), 1.0))
    done, rest = ("#", ".") if ascii_only else ("━", "━")
    return Text.assemble(
        (done * num_done, "green"),
        (rest * (bar_width - num_done), "bright_black"),
        beside,
        no_wrap=True,
        overflow="crop",
    )


def fit(parts: list[str], width: int) -> list[str]:
    """The parts that fit into `width` columns, space before each counted; earlier ones first."""
    fitting = []
    for part in filter(None, parts):
        if len(SPACE + part) <= width:
            fitting.append(part)
            width -= len(SPACE + part)
    return fitting
