"""The command `minivmm`: `doctor` and `run`. Heavy parts are imported by the command that needs them."""

from __future__ import annotations

import click

from minivmm import __version__


class Lazy(click.Group):
    """A group whose commands live in modules that are imported when they are asked for."""

    places = ("doctor", "minivmm.doctor.command"), ("run", "minivmm.run_command")

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, _ in self.places]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        from importlib import import_module

        module = dict(self.places).get(name)
        command: click.Command | None = getattr(import_module(module), name) if module else None
        return command


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """A small virtual machine monitor to learn from."""
