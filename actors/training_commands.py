"""`standwatch train`: film lessons in a rendered world, go through the stages of training, publish what was learnt."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from standwatch.actors.base_weights import base_folder, held
from standwatch.actors.drawings import SETS, TRAINING, load_drawings
from standwatch.actors.tuned_weights import quick_dtype
from standwatch.compression.tuning.takes import ORDER, RARE, subjects
from standwatch.configs.schema import ModelConfig
from standwatch.pipeline.errors import BadInput

app = typer.Typer(
    no_args_is_help=True, help="Train the small model: film, then align, tune and compress, then release."
)
_LESSONS, _EXAM = Path("runs/lessons"), Path("runs/exam")
# By stage: its steps, the examples of each, and the highest learning rate, unless the user says otherwise.
_STAGES = {
    "align": (8_000, 64, 2e-3),
    "see": (2_000, 32, 5e-4),
    "observe": (400, 12, 3e-4),
    "tune": (4_000, 8, 1e-3),
    "compress": (2_000, 8, 5e-4),
    "readout": (1_000, 16, 2e-3),
    "recall": (500, 16, 5e-4),
    "remember": (2_000, 8, 5e-4),
}
_OF_VISION = ("see", "observe")  # from pictures


@app.command()
def film(
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the lessons go.")] = _LESSONS,
    shards: Annotated[int, typer.Option(min=1, help="How many files, each of `--takes` scenes.")] = 100,
    first: Annotated[int, typer.Option(min=0, help="Number of the first; scenes depend on it alone.")] = 0,
    takes: Annotated[int, typer.Option(min=1, help="Scenes in a file.")] = 64,
    for_tests: Annotated[bool, typer.Option("--for-tests", help="Scenes and places that training never sees.")] = False,
    stills: Annotated[
        bool, typer.Option("--stills", help="Single frames only: quick to film, and learnt from.")
    ] = False,
    windows: Annotated[bool, typer.Option("--windows", help="Windows of several frames only.")] = False,
    of: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="With --stills: a kind of object that most of them show. With --windows: such a kind, or "
            f"{', '.join(RARE)}, that occurs once in each scene; or {ORDER}: of two events, which was first?",
        ),
    ] = "",
    real: Annotated[
        bool, typer.Option("--real", help="Crops of the bundled videos' trained part, instead of drawn scenes.")
    ] = False,
    context: Annotated[
        bool, typer.Option("--context", help="Windows come behind frames before them, as a live feed's do.")
    ] = False,
    style: Annotated[str, typer.Option(help=f"Set of drawings: {', '.join(SETS)}.")] = TRAINING,
    varied: Annotated[
        bool, typer.Option("--varied", help="Each file's drawings are bent, outlined, lit and coloured in its own way.")
    ] = False,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Store the pictures themselves: `see` and `observe` learn from these.")
    ] = False,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE", help="Who sees: what `see` or `observe` learnt, or a release; a folder each."
        ),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that draw; else one a core.")] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="The vision tower runs on a GPU.")] = False,
) -> None:
    """Store what vision makes of drawn scenes, or real ones, with the truth about them. Files that are there stay."""
    from standwatch.actors.filming import Reel, film_shards, load_film
    from standwatch.actors.lesson_footage import Shot, seen_by, unseen
    from standwatch.compression.checkpoint import load_model
    from standwatch.compression.tuning.examples import Example
    from standwatch.compression.tuning.eyesight import merge_vision
    from standwatch.compression.tuning.release import read_learnt

    if real and (for_tests or stills or windows or context or varied):
        raise BadInput(
            "--real: goes with none of --for-tests, --stills, --windows, --context and --varied; leave them out"
        )
    if stills and (windows or context):
        raise BadInput("--stills: goes with neither --windows nor --context; leave out one or the other")
    if of and not (stills or windows):
        raise BadInput("--of: goes with --stills or --windows; add one of them, or leave out --of")
    if pictures and start:
        raise BadInput("--from: nobody sees what is stored as --pictures; leave out one or the other")
    able = subjects(windows)
    if of and of not in able:
        raise BadInput(f"--of: {of!r} is none of what can be asked for here; choose one of {', '.join(able)}")
    reel = Reel(
        style,
        takes,
        for_tests=for_tests,
        stills=stills,
        windows=windows,
        of=of,
        real=real,
        context=context,
        varied=varied,
        pictures=pictures,
    )

    def opening() -> Callable[[Sequence[Shot]], Sequence[Example]]:
        load_drawings(style)  # once, before many processes want them
        if pictures:
            return unseen
        model = load_model(base_model(gpu=gpu)).model
        if start:
            merge_vision(model, read_learnt(start))
        return partial(seen_by, model)

    numbers = range(first, first + shards)
    new = film_shards(reel, numbers, to, opening, partial(load_film, reel), workers or os.cpu_count() or 1)
    print(f"{to}: {shards} files of {takes} scenes, {new} of them new")


@app.command()
def hide(
    lessons: Annotated[Path, typer.Option(metavar="FOLDER", help="What was filmed, with windows among it.")] = _LESSONS,
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where the segments go.")] = _LESSONS,
    shards: Annotated[int, typer.Option(min=1, help="How many files, each of `--takes` segments.")] = 5,
    first: Annotated[int, typer.Option(min=0, help="Number of the first.")] = 0,
    takes: Annotated[int, typer.Option(min=1, help="Segments in a file.")] = 64,
    frames: Annotated[int, typer.Option(min=2, help="Of a segment, at most.")] = 64,
) -> None:
    """Make segments out of lessons: what is asked for is hidden among frames of other scenes."""
    from standwatch.actors.hiding_lessons import hide_shards

    new = hide_shards(lessons, to, range(first, first + shards), takes, frames)
    print(f"{to}: {shards} files of {takes} segments, {new} of them new")


@app.command()
def run(
    stage: Annotated[str, typer.Argument(help=f"One of {', '.join(_STAGES)}.")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where checkpoints and the curve go.")],
    start: Annotated[Path | None, typer.Option("--from", metavar="FILE", help="What was learnt, or a release.")] = None,
    lessons: Annotated[Path, typer.Option(metavar="FOLDER", help="What to learn from.")] = _LESSONS,
    exam: Annotated[Path, typer.Option(metavar="FOLDER", help="What is only asked, for the curve.")] = _EXAM,
    steps: Annotated[int | None, typer.Option(min=1, help="Changes of the weights.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Examples of a step.")] = None,
    questions: Annotated[int, typer.Option(min=1, help="Asked about each example of a step.")] = 8,
    most_frames: Annotated[int, typer.Option(min=1, help="Leave out examples of more: few frames teach fastest.")] = 16,
    rate: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    rank: Annotated[int, typer.Option(min=1, help="Of what is added to the language model's weights.")] = 16,
    freeze_projector: Annotated[
        bool, typer.Option("--freeze-projector", help="It stays as alignment left it; only who reads it learns.")
    ] = False,
    known: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where vision learns: what told a cell right with this file's vision stays near it."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides which examples come when.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Learn together; else one a core, or one GPU.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of each worker; one each is fastest.")] = 1,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Fuse the layers' small steps first; needs a C++ compiler.")
    ] = False,
    gpu: Annotated[bool, typer.Option("--gpu", help="A GPU for each worker.")] = False,
    dtype: Annotated[
        str | None, typer.Option(help="Precision of the base model's weights; else the quickest of this machine.")
    ] = None,
) -> None:
    """Go through one stage on Ray Train. The same command goes on where a run was stopped."""
    if stage not in _STAGES:
        raise BadInput(f"stage: {stage!r} is none; choose one of {', '.join(_STAGES)}")
    if freeze_projector and stage in ("align", *_OF_VISION):
        raise BadInput(f"--freeze-projector: in {stage} it learns; leave it out")
    if known and stage not in _OF_VISION:
        raise BadInput(f"--known: vision does not learn in {stage}; leave it out, or choose {' or '.join(_OF_VISION)}")
    from standwatch.actors.training_run import Course, train
    from standwatch.compression.tuning.learner import Stage

    usual_steps, usual_batch, usual_rate = _STAGES[stage]
    course = Course(
        stage=Stage(stage),
        lessons=str(lessons.absolute()),
        exam=str(exam.absolute()),
        start=str(start.absolute()) if start else "",
        steps=steps or usual_steps,
        examples_per_step=batch or usual_batch,
        questions=questions,
        learning_rate=rate or usual_rate,
        rank=rank,
        seed=seed,
        threads=threads,
        compiled=compiled,
        most_frames=most_frames,
        freeze_projector=freeze_projector,
        known=str(known.absolute()) if known else "",
    )
    together = workers or (1 if gpu else min(os.cpu_count() or 1, course.examples_per_step))
    print(f"learnt: {train(course, base_model(dtype, gpu), to, together, gpu)}")


@app.command()
def curves(
    runs: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Folders of runs, in their order.")],
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="A picture: .png, .svg or .pdf.")],
) -> None:
    """Draw the loss and the share of right answers of one or more runs."""
    from standwatch.actors.training_curve import draw_curves
    from standwatch.actors.training_run import CURVE

    draw_curves([run / CURVE for run in runs], to)
    print(to)


@app.command()
def release(
    learnt: Annotated[list[Path], typer.Argument(help="The file that a run printed; of several, their mean.")],
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="What to publish.")],
    notes: Annotated[str, typer.Option(help="How it was made.")] = "",
) -> None:
    """Write what was learnt as the small file that is published."""
    from standwatch.compression.tuning.release import write_release

    try:
        write_release(learnt, to, {"made": notes})
    except ValueError as error:
        raise BadInput(str(error)) from None
    print(f"{to}: {to.stat().st_size / 1e6:.1f} MB")


def base_model(dtype: str | None = None, gpu: bool = False) -> ModelConfig:
    """The base weights of the user's cache, in this precision or else the quickest; raises BadInput without them."""
    folder = base_folder()
    held(folder)
    quick = "bfloat16" if gpu else quick_dtype()
    return ModelConfig(checkpoint=str(folder), dtype=dtype or quick, device="cuda" if gpu else "cpu")
