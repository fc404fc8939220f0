"""`tatar-llm publish`: the Hugging Face export, a list of exactly what would go out, and one commit to the Hub."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tatar_llm import __version__
from tatar_llm.console import human_bytes, say
from tatar_llm.corpus.download import PATIENCE, Patience
from tatar_llm.corpus.hub import site
from tatar_llm.errors import TatarLLMError, UsageError
from tatar_llm.export.hf import export_hf
from tatar_llm.export.record import Record, read_record
from tatar_llm.model.stock import MARKER
from tatar_llm.training.runs import ModelPlace
from tatar_llm.waiting import within
from tatar_llm.workspace import Workspace, read_json, sha256_file

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")
"""A user's or a repository's name; the Hub allows no -- or .. in it, nor .git at its end."""
LONGEST = 96
LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{1,39}")
TAG = "tatar-llm"
"""By this tag of its card the Hub tells a repository that was published from here."""
ITS_OWN = {".gitattributes"}
"""What the Hub puts into every repository."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class Publication:
    """What is asked of a publication."""

    repo: str
    """USER/NAME."""
    public: bool = False
    """For everyone to see; otherwise for the user or organisation alone."""
    dtype: str = "float32"
    message: str = ""
    """Of the commit; empty: the model's name and figure."""
    licence: str = ""
    """The Hub's identifier of the model's licence."""
    force: bool = False
    """Also into a repository that holds something else."""
    dry_run: bool = False
    """Stop before the first request."""


@dataclass(frozen=True)
class State:
    """The repository as it is before the upload."""

    commit: str
    private: bool
    ours: bool
    files: frozenset[str]


def publish(
    workspace: Workspace, place: ModelPlace, wanted: Publication, patience: Patience = PATIENCE
) -> dict[str, Any]:
    """Export the model at `place` and commit it to a repository of the Hub, which is made where it does not exist.

    The commit is whole or not at all: after a failure the repository is as it was. The token is where huggingface_hub
    keeps it (HF_TOKEN, or its login).

    Returns:
        {"model", "repo", "url", "public", "created", "commit", "dry_run", "files": [{"path", "bytes", "sha256"}], "card"}.

    Raises:
        UsageError: a name or licence that the Hub cannot take.
        TatarLLMError: a library is missing, the export fails its check, or the Hub refuses or cannot be reached.
    """
    _need_names(wanted)
    _need_library()  # before the export, which reads the library's settings while the network is off
    hub = None if wanted.dry_run else Hub(wanted.repo, patience)
    state = hub.look() if hub else None
    _need_welcome(wanted, state)
    public = not state.private if state else wanted.public
    with tempfile.TemporaryDirectory(prefix="tatar-llm-", ignore_cleanup_errors=True) as temporary:
        folder = export_hf(
            workspace, place, str(Path(temporary) / "hf"), dtype=wanted.dtype, repo=wanted.repo, licence=wanted.licence
        )
        files: list[dict[str, Any]] = [
            {"path": path.name, "bytes": path.stat().st_size, "sha256": sha256_file(path)} for path in sorted(folder.iterdir())
        ]
        say(f"{place.name} -> {wanted.repo}, {'public' if public else 'private'}: {len(files)} files, "
            f"{human_bytes(sum(file['bytes'] for file in files))}")  # fmt: skip
        for file in files:
            say(f"  {file['path']:24} {file['bytes']:>14,} bytes")
        _remark(read_record(workspace, place, read_json(folder / "config.json")[MARKER]), wanted)
        commit = hub.upload(folder, state, public, wanted.message or _message(place)) if hub else None
        return {
            "model": place.name, "repo": wanted.repo, "url": f"{site()}/{wanted.repo}",
            "public": public, "created": bool(hub) and state is None,
            "commit": commit, "dry_run": wanted.dry_run, "files": files,
            "card": (folder / "README.md").read_text(encoding="utf-8"),
        }  # fmt: skip


# -- before the export -------------------------------------------------------------------------------------------


def _need_names(wanted: Publication) -> None:
    repo = wanted.repo
    owner, slash, name = repo.partition("/")
    if not slash or not owner or not name:
        raise UsageError(f"publish needs USER/NAME, the repository's whole name on the Hub, not {repo!r}")
    if any(not NAME.fullmatch(part) or "--" in part or ".." in part for part in (owner, name)) or name.endswith(".git"):
        raise UsageError(
            f"the Hub takes no repository {repo!r}: USER/NAME in Latin letters, digits, single - and . and _, not at the ends"
        )
    if len(repo) > LONGEST:
        raise UsageError(f"the Hub takes no repository name of {len(repo)} characters: at most {LONGEST}")
    if wanted.licence and not LICENCE.fullmatch(wanted.licence):
        raise UsageError(f"--licence {wanted.licence!r}: the Hub's identifiers look like mit, cc-by-4.0, cc-by-sa-4.0, odc-by")


def _need_library() -> None:
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise TatarLLMError('publish needs two more libraries: pip install "transformers>=5.0" huggingface_hub') from error


def _need_welcome(wanted: Publication, state: State | None) -> None:
    """Raise where the upload would show or mix what the user did not ask for; say what becomes of a repository that exists."""
    if state is None:
        return
    if not state.private and not wanted.public:
        raise TatarLLMError(
            f"{wanted.repo} exists and everyone can see it: add --public if that is meant, or choose another name"
        )
    others = sorted(state.files - ITS_OWN)
    if others and not state.ours and not wanted.force:
        shown = ", ".join(others[:4]) + (f" and {len(others) - 4} more" if len(others) > 4 else "")
        raise TatarLLMError(
            f"{wanted.repo} exists and holds something that was not published from here ({shown}). An upload is a commit: files of the "
            "same name would be replaced, the others stay beside the model. Choose another name, or take --force"
        )
    if state.private and wanted.public:
        say(f"{wanted.repo} is private and stays so; its settings page on the Hub makes it public")
    say(f"{wanted.repo} exists: this becomes its next commit, the version before stays in its history")


def _remark(record: Record, wanted: Publication) -> None:
    """Say what the readers of the card will miss."""
    if record.unlicensed:
        say(f"no licence is recorded for {', '.join(record.unlicensed)}: pass the model on only if that text may be used so")
    if not (wanted.licence or record.licence):
        say("the card names no licence for the model: --licence ID does, for example --licence cc-by-4.0")
    if not record.report:
        say("the card has bits per byte alone: `tatar-llm evaluate` first gives it the other figures")


def _message(place: ModelPlace) -> str:
    return f"{Path(place.name).name}, tatar-llm {__version__}"


# -- the Hub -----------------------------------------------------------------------------------------------------


class Hub:
    """One repository of the Hub, as the user who is logged in; every refusal becomes one line."""

    def __init__(self, repo: str, patience: Patience = PATIENCE) -> None:
        from huggingface_hub import HfApi

        self.repo, self.patience = repo, patience
        self.token = self._need_token()
        self.api = HfApi(endpoint=site(), token=self.token, library_name="tatar-llm", library_version=__version__)

    def _need_token(self) -> str:
        from huggingface_hub import constants, get_token

        if constants.HF_HUB_OFFLINE:
            raise TatarLLMError("HF_HUB_OFFLINE is set, which forbids every request: unset it to publish, or take --dry_run")
        try:
            token = get_token()
        except Exception as error:  # reading a login of a newer kind may itself ask the network
            raise TatarLLMError(f"the login for the Hub cannot be read ({_first_line(error)}): log in again with `hf auth login`") from None
        if not token:
            raise TatarLLMError(
                f"not logged in to the Hub: make a token with the right to write on {site()}/settings/tokens, then give it to "
                "`hf auth login` or set it as HF_TOKEN. --dry_run shows what would be published"
            )
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise TatarLLMError("what is set as the Hub's token is none: it holds spaces or letters that no token has")
        return token

    def look(self) -> State | None:
        """Who is logged in and whether they may write there; the repository's state, or None where there is none."""
        me = self._ask(self.api.whoami, "log in")
        if not isinstance(me, dict) or not me.get("name"):
            raise TatarLLMError(f"could not log in: what answers at {site()} is not the Hub")
        name, orgs = me["name"], {org.get("name"): org for org in me.get("orgs", [])}
        owner = self.repo.partition("/")[0]
        role = (me.get("auth", {}).get("accessToken") or {}).get("role")
        if role == "read":
            raise TatarLLMError(f"the token of {name} may only read: make one with the right to write on {site()}/settings/tokens")
        if owner != name and owner not in orgs:
            others = f", and belong to {', '.join(sorted(map(str, orgs)))}" if orgs else ""
            raise TatarLLMError(f"you are {name} on the Hub{others}: you cannot write to {owner}. Take {name}/{self.repo.partition('/')[2]}")
        if orgs.get(owner, {}).get("roleInOrg") == "read":
            raise TatarLLMError(f"{name} may only read in the organisation {owner}: ask its admins for the right to write")
        return self._ask(self._state, f"look at {self.repo}")

    def _state(self) -> State | None:
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            found = self.api.model_info(self.repo)
        except RepositoryNotFoundError:
            return None
        files = frozenset(file.rfilename for file in found.siblings or ())
        return State(found.sha or "", bool(found.private), TAG in (found.tags or ()), files)

    def upload(self, folder: Path, state: State | None, public: bool, message: str) -> str:
        """Make the repository where it is missing, and commit all files of `folder`; returns the commit."""
        from huggingface_hub import CommitOperationAdd

        if state is None:
            self._ask(lambda: self.api.create_repo(self.repo, private=not public), f"make {self.repo}")
        left = "is there and empty" if state is None else "is as it was"
        add = [CommitOperationAdd(path.name, str(path)) for path in sorted(folder.iterdir())]
        try:
            with _calm():
                done = self.api.create_commit(
                    self.repo, add, commit_message=message, parent_commit=state.commit or None if state else None
                )
        except Exception as error:
            raise TatarLLMError(
                f"{self._why(error, f'upload to {self.repo}')}. Nothing was committed: the repository {left}. The same command "
                "tries again; what has arrived is not sent twice"
            ) from None
        return done.oid

    def _ask(self, work: Callable[[], Found], doing: str) -> Found:
        try:
            return within(self.patience.stall, work)
        except Exception as error:  # whatever the library's transport raises, which was requests once and is httpx now
            raise TatarLLMError(self._why(error, doing)) from None

    def _why(self, error: Exception, doing: str) -> str:
        """One line for what the Hub or the way to it refused. The token is in no message."""
        if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception):
            error = error.__cause__  # the library's "Error while uploading FILE" does not say why
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = _first_line(error).replace(self.token, "***")
        told = f"could not {doing}: "
        if status == 401:
            return told + f"the Hub does not take this token; make another on {site()}/settings/tokens and `hf auth login` again"
        if status == 403:
            return told + f"the token has no right to that ({reason}); give it the right to write on {site()}/settings/tokens"
        if status == 409:
            return told + f"it exists, but the token may not see it, or somebody else has changed it meanwhile ({reason})"
        if status == 412:
            return told + "somebody else has changed it meanwhile"
        if status == 429 or (status and status >= 500):
            return told + f"the Hub answered HTTP {status}; try again later"
        if status:
            return told + f"the Hub answered HTTP {status} ({reason})"
        if isinstance(error, json.JSONDecodeError):
            return told + f"what answers at {site()} is not the Hub"
        if isinstance(error, ValueError):  # the library's word for a card or a file that the Hub rejects
            return told + reason
        return told + f"{site()} cannot be reached ({reason}); check the connection"


def _first_line(error: Exception) -> str:
    """What the server said, or the first line of the exception, short and without an address that may be signed."""
    said = getattr(error, "server_message", None) or str(error)
    lines = [line.strip(" -.") for line in said.splitlines() if line.strip(" -.")]
    found = " ".join(lines[:2]) if isinstance(error, ValueError) else (lines or [type(error).__name__])[0]
    return re.sub(r"https?://\S+", "...", found)[:200] or type(error).__name__


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Progress bars on a terminal alone; the library's notes on retries, which spell out addresses, not at all."""
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, logging

    verbosity, bars = logging.get_verbosity(), not are_progress_bars_disabled()
    logging.set_verbosity_error()
    if bars and not sys.stderr.isatty():
        disable_progress_bars()
    try:
        with warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("always")
            yield
        for note in noted:
            if "metadata" in str(note.message):
                say("the Hub notes: " + " ".join(str(note.message).split()))
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            enable_progress_bars()
