"""The command line: reads arguments, calls one function, prints; every mistake of the user is one clear line."""

import sys
from typing import Annotated

import typer

from standwatch.actors import (
    memory_commands,
    query_commands,
    run_commands,
    topic_commands,
    training_commands,
    weights_commands,
)
from standwatch.configs.load import ConfigError
from standwatch.pipeline.errors import BadInput, GaveUp, PositionLost, StaleEpoch, Unavailable

app = typer.Typer(
    name="standwatch",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=(
        "Watch many live video feeds and keep answering questions asked once, in plain language.\n\n"
        "Try it:  standwatch demo --for 60s\n\n"
        "By hand, in three terminals:\n\n"
        "  standwatch run --config local\n\n"
        "  standwatch publish camera.mp4 --feed yard --to spool:runs/local/spool --live\n\n"
        '  standwatch query add "Is a person in the picture?" --id person --memory runs/local/memory'
    ),
)
app.command("demo")(run_commands.demo)
app.command("run")(run_commands.run)
app.command("publish")(run_commands.publish)
app.command("ask")(query_commands.ask)
app.command("config")(run_commands.show_config)
app.add_typer(query_commands.app, name="query")
app.add_typer(memory_commands.app, name="memory")
app.add_typer(topic_commands.app, name="topics")
app.add_typer(weights_commands.app, name="weights")
app.add_typer(training_commands.app, name="train")


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        from standwatch import __version__

        print(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 found wrong or unavailable, 2 the user's input is at fault."""
    try:
        app()
    except (BadInput, ConfigError) as error:
        _fail(str(error), 2)
    except (GaveUp, PositionLost, StaleEpoch, Unavailable) as error:
        _fail(str(error), 1)
    except OSError as error:
        _fail(f"{error.filename or 'system'}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        _fail("stopped", 130)


def _fail(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
