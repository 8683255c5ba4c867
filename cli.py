"""The command line: the table of commands, their help, and the edge, where every error becomes two lines."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from . import __version__
from .commands import (
    bench,
    bundle,
    console,
    deepstream,
    distill,
    doctor,
    fp8,
    int8,
    lint,
    onnx,
    plan,
    predict,
    stream,
    synth,
    triton,
    trt,
    tune,
    verify,
)
from .core.errors import DualExportError, was_interrupted

NAME = "dualexport"
INTERRUPTED, BROKEN_PIPE = 130, 141  # exit codes, as a shell has them for SIGINT and SIGPIPE
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # its module is private to Typer, or Click's
KEPT = dict.fromkeys(
    ("distill", "tune", "verify"), "what was found out so far is kept, and the same command goes on from there"
)
REPORT = "this is a mistake in dualexport: please report it, with what the same command prints with --debug"
TYPES = {"int": "N", "float": "X", "path": "FILE", "str": "TEXT"}  # of an option's value, as help shows it


class Command(TyperCommand):
    """A command whose usage and help show its arguments as their metavars have them."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ARG002  # the base class gives it
        """The words of the usage line after the command's name."""
        return ["[OPTIONS]", *(str(param.metavar) for param in self.params if param.param_type_name == "argument")]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the sections of arguments and of options."""
        arguments: list[tuple[str, str]] = []
        options: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            name, text = param.get_help_record(ctx) or ("", "")
            if param.param_type_name == "argument":
                arguments.append((str(param.metavar), str(getattr(param, "help", ""))))
            elif name:
                options.append((_name_type(name), text))
        for title, rows in (("Arguments", arguments), ("Options", options)):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


class Group(TyperGroup):
    """The commands, each with the whole first sentence of its help."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002  # the base class gives it
        """Write the section of commands."""
        rows = [(name, (one.help or "").partition("\n\n")[0]) for name, one in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


app = typer.Typer(
    name=NAME,
    cls=Group,
    help="Take a DualFormer video network from a PyTorch checkpoint to verified ONNX files and a TensorRT engine.",
    epilog="All of it, step by step: docs/tutorial.md. A first step:\n\ndualexport onnx --model demo",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for _run, _epilog in (
    (onnx.onnx, onnx.EPILOG),
    (distill.distill, distill.EPILOG),
    (int8.int8, int8.EPILOG),
    (fp8.fp8, fp8.EPILOG),
    (verify.verify, verify.EPILOG),
    (bench.bench, bench.EPILOG),
    (tune.tune, tune.EPILOG),
    (predict.predict, predict.EPILOG),
    (stream.stream, stream.EPILOG),
    (trt.trt, trt.EPILOG),
    (bundle.bundle, bundle.EPILOG),
    (plan.plan, plan.EPILOG),
    (lint.lint, lint.EPILOG),
    (synth.synth, synth.EPILOG),
    (triton.triton, triton.EPILOG),
    (deepstream.deepstream, deepstream.EPILOG),
    (doctor.doctor, doctor.EPILOG),
):
    app.command(cls=Command, epilog=_epilog.replace("\n\ndualexport", "\n\n\b\ndualexport"))(_run)  # not wrapped


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: whatever goes wrong is two lines on stderr, with a traceback under --debug.

    Exits with 0, 1 (a failed run or check), 2 (wrong usage), 130 (interrupted) or 141 (nobody reads the output).
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    console.prepare_streams()
    rest = [argument for argument in given if argument != "--debug"]
    if f"_{NAME.upper()}_COMPLETE" in os.environ:  # a shell asks for completions
        app(prog_name=NAME)
    try:
        code = _run_command(rest or ["--help"])
        console.flush()
    except KeyboardInterrupt:
        kept = KEPT.get(next(iter(rest), ""), "finished files are kept, unfinished ones are removed")
        console.print_line(f"interrupted: {kept}")
        code = INTERRUPTED
    except BrokenPipeError:  # who reads the output has left
        code = BROKEN_PIPE
    except Exception as error:  # noqa: BLE001  # the edge: nothing else may catch everything
        console.drop_broken_streams()
        message, fix, code = explain(error)
        if "--debug" in given:
            traceback.print_exception(error)
        console.print_error(message, fix)
    console.drop_broken_streams()
    sys.exit(code)


def explain(error: Exception) -> tuple[str, str, int]:
    """The two lines that an error becomes, and the exit code."""
    if isinstance(error, DualExportError):
        return str(error), error.fix, error.exit_code
    if isinstance(error, UsageError):
        command = getattr(getattr(error, "ctx", None), "command_path", NAME)
        message = str(error.format_message())  # type: ignore[attr-defined]
        return message.removeprefix("Invalid value: "), f"`{command} --help` shows what it takes", 2
    if isinstance(error, MemoryError) or "allocate memory" in str(error):
        return f"not enough memory: {error or 'no more is given'}", "end other programs, or ask for less at a time", 1
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename is not None else ""
        return f"{place}{error.strerror}", "check the path, its permissions and the space there", 1
    if isinstance(error, ImportError):
        return f"a library does not load: {error}", f"`{NAME} doctor` says what is installed, and what is missing", 1
    return f"unexpected {type(error).__name__}: {error}", REPORT, 1


@cache  # it takes 30 ms
def build_command() -> Any:
    """The command line as an object of Click."""
    return typer.main.get_command(app)


def _run_command(arguments: list[str]) -> int:
    """Run a command as Typer would on its own, but let every exception pass."""
    command = build_command()
    try:
        with command.make_context(NAME, arguments) as context:
            command.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    except Exception as error:
        if was_interrupted(error):
            raise KeyboardInterrupt from error
        raise
    return 0


def _name_type(option: str) -> str:
    """`--views <int range>` -> `--views N`, `--runtime <list[torch|onnx]>` -> `--runtime torch|onnx`."""
    name, bracket, kind = option.partition(" <")
    if not bracket:
        return option
    kind = kind.removesuffix(">").removesuffix(" range").removeprefix("list[").removesuffix("]")
    return f"{name} {TYPES.get(kind, kind)}"


@app.callback(invoke_without_command=True)
def _common(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    debug: Annotated[  # noqa: ARG001  # main() reads it, so that it may stand anywhere
        bool, typer.Option("--debug", help="Show an error's traceback; may stand anywhere.")
    ] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
