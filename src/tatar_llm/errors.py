"""What can go wrong in a way that the user can mend: one line, what happened and what to do next."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class TatarLLMError(Exception):
    """The work failed for a reason that can be told in one line. The command ends with exit code 1."""

    exit_code = 1


class UsageError(TatarLLMError):
    """The command was called wrongly. It ends with exit code 2."""

    exit_code = 2


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint naming the valid word nearest to `name`, or an empty string: `` (did you mean n_layer?)``."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" (did you mean {found[0]}?)" if found else ""


def explain_os_error(error: OSError) -> str:
    """One line for an operating system's refusal."""
    where = f" at {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{where}: free some space and run the same command again; finished stages are kept"
    if isinstance(error, PermissionError) or error.errno == errno.EROFS:
        return f"no permission to write{where}: choose another folder with --workspace DIR"
    return f"{error.strerror or error}{where}"
