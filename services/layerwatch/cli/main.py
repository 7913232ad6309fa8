"""`layerwatch`: one command, each subcommand in a module of its own that is imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

try:
    import click
except ModuleNotFoundError:  # the probe is installed without a command line
    sys.exit(
        "the command line needs more packages: pip install 'layerwatch[agent]' (or another service's extra)"
    )

from layerwatch.schemas.errors import LayerwatchError

# Read when numpy is loaded. The matrices are small: threads of the linear algebra library would only contend.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

#: Subcommand: (module under layerwatch.cli, one line of help, the extra that installs what it imports).
COMMANDS = {
    "up": ("up", "Run all services on this machine", "all"),
    "broker": ("broker", "Run the local Kafka broker", "agent"),
    "topics": ("topics", "Create and check the topics", "agent"),
    "agent": ("agent", "Run the agent of this host", "agent"),
    "engine": ("engine", "Build and inspect TensorRT engines", "agent"),
    "processor": ("processor", "Run the stream processor", "processor"),
    "decision": ("decision", "Run the decision centre", "decision"),
    "history": ("history", "Run the history service", "history"),
    "scaler": ("scaler", "Tell autoscalers how many replicas are needed", "scaler"),
    "notify": ("notify", "Tell people of alerts", "notify"),
    "train": ("train", "Fit models on what is healthy", "training"),
    "record": ("record", "Record the topics to a file", "recording"),
    "replay": ("replay", "Replay a recording, to Kafka or offline", "recording"),
    "evaluate": ("evaluate", "Judge the detectors on recordings", "evaluation"),
    "capacity": ("capacity", "Compare forecasts of load with reactive scaling", "evaluation"),
    "alerts": ("alerts", "List alerts", "agent"),
    "decisions": ("decisions", "List decisions", "agent"),
    "kill": ("kill", "Switch decisions off, or on again", "agent"),
    "override": ("override", "Order an action on a service, for a time", "agent"),
    "silence": ("silence", "Tell nobody of alerts that match, for a time", "agent"),
    "mark": ("mark", "Tell of a deployment or change", "agent"),
    "orders": ("orders", "List orders, or end one", "agent"),
    "doctor": ("doctor", "Check this machine and say what to mend", "agent"),
}


class _Lazy(click.Group):
    """A group that imports a subcommand's module only when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, extra = COMMANDS[cmd_name]
        try:
            command = importlib.import_module(f"layerwatch.cli.{module}").command
        except ModuleNotFoundError as error:
            if error.name and error.name.startswith("layerwatch"):
                raise
            raise click.ClickException(
                f"`layerwatch {cmd_name}` needs the package {error.name}: pip install 'layerwatch[{extra}]'"
            ) from error
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help, _) in COMMANDS.items()])


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="layerwatch")
def cli() -> None:
    """layerwatch watches TensorRT runtimes layer by layer. Settings: `layerwatch doctor`."""


def main(argv: list[str] | None = None) -> Any:
    """Entry point; our own errors end as one line on stderr and status 1."""
    try:
        return cli.main(argv, prog_name="layerwatch")
    except LayerwatchError as error:
        click.echo(f"layerwatch: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
