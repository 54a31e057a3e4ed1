"""`standwatch topics`: create and check the topics that our chunks need."""

from typing import Annotated

import typer

from standwatch.actors.topics import check_topics, create_topics
from standwatch.configs.load import load_config

app = typer.Typer(no_args_is_help=True, help="Create or check the topics of a configuration (Kafka or spool).")

Profile = Annotated[str, typer.Option("--config", help="Profile: demo, local or kafka.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Overrides, e.g. broker.bootstrap_servers=kafka:9092"),
]


@app.command()
def create(config: Profile = "kafka", overrides: Overrides = None) -> None:
    """Create what is missing and raise settings that are too small for 10 MiB records; safe to repeat."""
    settings = load_config(config, None, overrides or ())
    for line in create_topics(settings.broker, settings.topics):
        print(line)


@app.command()
def check(config: Profile = "kafka", overrides: Overrides = None) -> None:
    """Say what is wrong with the topics; exits 1 when something is."""
    settings = load_config(config, None, overrides or ())
    problems = check_topics(settings.broker, settings.topics)
    for problem in problems:
        print(problem)
    if problems:
        raise typer.Exit(1)
    print("topics are fine")
