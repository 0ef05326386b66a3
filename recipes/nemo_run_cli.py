"""The `nemo run recipe` command group.

Importing this module registers the recipes with NeMo-Run: its entry point group `nemo_run.cli` offers no other way.
Nothing else imports it.
"""

from __future__ import annotations

import sys
from typing import Any

import nemo_run as run
import typer
from nemo_run.cli.api import Entrypoint
from typer.core import TyperGroup

from cosmos_nemo import catalog
from recipes.launch import command as launch

# No help option: `--help` goes through to the launch layer, which knows the options.
_PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


class RecipeGroup(TyperGroup):
    """`nemo run recipe`: a name that is no recipe is answered by the launch layer, which knows the names."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command of the recipe `args[0]`."""
        if args and not args[0].startswith("-") and args[0] not in catalog.RECIPES:
            sys.exit(launch.main(args, prog="nemo run recipe"))
        return super().resolve_command(ctx, args)


class RecipeCommand(Entrypoint):
    """One recipe below `nemo run recipe`: hands its words to the launch layer as they are."""

    def cli(self, parent: typer.Typer) -> None:
        """Add the command to `parent`, the typer application of `nemo run recipe`."""
        parent.callback(invoke_without_command=True, cls=RecipeGroup)(_list_recipes)

        def command(context: typer.Context) -> None:
            raise typer.Exit(launch.main([self.name, *context.args], prog="nemo run recipe"))

        help_text = catalog.lookup(self.name).description
        parent.command(self.name, help=help_text, context_settings=_PASS_THROUGH)(command)


def _list_recipes(context: typer.Context) -> None:
    """Post-train a Cosmos world model. Without a name the recipes are listed."""
    if context.invoked_subcommand is None:
        print(catalog.listing())
        sys.exit(0)


def _register() -> None:
    for entry in catalog.ENTRIES:

        def recipe() -> None:
            """Stand-in: NeMo-Run keys its registry by the function's name."""

        recipe.__name__ = entry.name
        run.cli.entrypoint(recipe, name=entry.name, namespace="run.recipe", entrypoint_cls=RecipeCommand)


_register()
