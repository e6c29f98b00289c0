"""The command line. Domain first (``headwater molecules sample``), then the core's own verbs; a module each, and only the one
that is named is imported, so that help costs neither torch nor a domain.

A user's mistake is one line on standard error. Exit codes: 0 done, 2 bad input, 3 done with unusable results, 4 a promise
broken, 130 interrupted.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from headwater.errors import HeadwaterError

GROUP = "headwater.domains"  # as in headwater.registry, which help does not import
#: The core's verbs: module and what it does.
VERBS: Mapping[str, tuple[str, str]] = {
    "list": ("headwater.cli.listing", "Domains, their models, pipelines and recipes."),
    "demo": ("headwater.cli.demo", "Every domain on its shipped models and packaged inputs, on one page."),
    "train": ("headwater.cli.train", "Train a model, or adapt a shipped one to your own files."),
    "evaluate": ("headwater.cli.evaluate", "A model's figures beside published ones."),
    "batch": ("headwater.cli.batch", "Jobs over many rows that can be killed and resumed."),
    "card": ("headwater.cli.card", "A model's card."),
    "data": ("headwater.cli.data", "Data sets: what there is, and fetching one."),
    "check": ("headwater.cli.check", "Run the conformance kit on a domain."),
    "new": ("headwater.cli.new", "Write the skeleton of a new domain."),
}
SETTINGS = {"help_option_names": ["-h", "--help"]}


def command(name: str, function: Callable[..., Any], help: str | None = None) -> TyperCommand:
    """A plain function with typer annotations as a command."""
    app = typer.Typer(add_completion=False, context_settings=SETTINGS, rich_markup_mode=style())
    app.command(name, help=help)(function)
    made: TyperCommand = get_command(app)  # type: ignore[assignment]
    return made


def group(name: str, functions: Mapping[str, Callable[..., Any]], help: str) -> TyperGroup:
    """Commands under one name."""
    commands: dict[str, Any] = {n: command(n, f) for n, f in functions.items()}
    return Named(name=name, commands=commands, help=help, no_args_is_help=True, context_settings=SETTINGS, rich_markup_mode=style())


def style() -> Any:
    """Boxes and colours in help are for people."""
    return "rich" if sys.stdout.isatty() else None


class Named(TyperGroup):
    """A group whose error for an unknown name says what there is."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in (names := self.list_commands(ctx)) and not args[0].startswith("-"):
            what = "domain or command" if ctx.parent is None else f"command of {ctx.info_name}"
            raise HeadwaterError(f"unknown {what} {args[0]!r}; {suggestion(args[0], names)}")
        return super().resolve_command(ctx, args)


class Root(Named):
    """All commands by name, each loaded when it is run; help shows what is known without loading."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*domain_names(), *VERBS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """What help shows: a name and a line."""
        if cmd_name in VERBS:
            return TyperCommand(cmd_name, help=VERBS[cmd_name][1], rich_help_panel="Core")
        if cmd_name in domain_names():
            return TyperCommand(
                cmd_name, help=f"A domain: `headwater {cmd_name} --help` says what it can do.", rich_help_panel="Domains"
            )
        return None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name in VERBS:
            module = importlib.import_module(VERBS[name][0])
            if hasattr(module, "commands"):
                return name, group(name, module.commands, VERBS[name][1]), args[1:]
            return name, command(name, module.command), args[1:]
        if name in domain_names():
            from headwater.cli.domain import domain_group

            return name, domain_group(name), args[1:]
        return super().resolve_command(ctx, args)


def domain_names() -> list[str]:
    """The registered domains by name, without importing one."""
    import importlib.metadata  # a third of what a verb's command line takes to start, and not needed for that

    return sorted({point.name for point in importlib.metadata.entry_points(group=GROUP)} - VERBS.keys())


def suggestion(word: str, known: Sequence[str]) -> str:
    """What to type instead.

    >>> suggestion("molecule", ["molecules", "medical"])
    "did you mean 'molecules'?"
    """
    close = difflib.get_close_matches(word, known, n=2)
    if close:
        return f"did you mean {' or '.join(map(repr, close))}?"
    return f"expected one of {', '.join(known)}" if known else "there is none"


def version(value: bool) -> None:
    if value:
        import importlib.metadata

        print(importlib.metadata.version("headwater"))
        raise typer.Exit


def root() -> Root:
    """The whole command line."""
    app = typer.Typer(add_completion=False)
    app.callback()(_options)
    options = get_command(app).params
    text = "Generative models for the things of a field: one core, and domains that plug into it."
    return Root(
        name="headwater", help=text, params=options, no_args_is_help=True, context_settings=SETTINGS, rich_markup_mode=style()
    )


def _options(show: bool = typer.Option(False, "--version", help="Print the version.", callback=version, is_eager=True)) -> None: ...


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line (that of the process by default) and exit with its code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; every mistake becomes one line and an exit code. ``HEADWATER_DEBUG=1`` shows tracebacks instead."""
    try:
        with_code = root().main(
            list(sys.argv[1:] if arguments is None else arguments), prog_name="headwater", standalone_mode=False
        )
        return with_code if isinstance(with_code, int) else 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("HEADWATER_DEBUG"):
            raise
        told = explain(error)
        if told is None:
            raise
        message, code = told
        if message:
            print(f"headwater: {message}", file=sys.stderr)
        return code


def explain(error: Exception) -> tuple[str, int] | None:
    """The line and the exit code for a user's mistake; None for what is ours."""
    if isinstance(error, HeadwaterError):
        return " ".join(str(error).split()), error.exit_code
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help itself
        print(error.ctx.get_help())  # type: ignore[attr-defined]
        return "", 2
    if isinstance(error, typer.Abort):
        return "", 130
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # a usage error of the parser
        where = getattr(error, "ctx", None)
        hint = f" (see `{where.command_path} --help`)" if where is not None else ""
        return " ".join(error.format_message().split()).rstrip(".") + hint, int(error.exit_code)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror, 2
    return None
