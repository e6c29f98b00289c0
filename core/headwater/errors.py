"""What a user can get wrong, as exceptions with an exit code. Each message names the argument, what was expected, what came
and what to do; the command line prints it without a traceback."""

from __future__ import annotations


class HeadwaterError(Exception):
    """A mistake in the input. Exit code 2."""

    exit_code = 2


class MissingExtra(HeadwaterError):
    """A package that an optional extra brings is not installed."""


class BrokenDomain(HeadwaterError):
    """A registered domain cannot be used: its import failed or it takes a reserved name."""


class MissingVerb(HeadwaterError):
    """This model cannot answer that question; the message names the models that can."""


class BadModel(HeadwaterError):
    """A model folder is incomplete, changed, or of another format version."""


class PromiseBroken(HeadwaterError):
    """The work was done but something promised could not be kept. Exit code 4."""

    exit_code = 4
