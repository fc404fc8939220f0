"""Hugging Face data sets: which parquet files make one up, and how they come into data/raw. Needs the extra `corpus`."""

from __future__ import annotations

import contextlib
import fnmatch
import importlib.util
import os
import time
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn
from urllib.parse import quote

from tatar_llm import console
from tatar_llm.corpus.download import (
    BUSY,
    Patience,
    SourceUnavailable,
    fetch,
    pause,
    retry_after,
)
from tatar_llm.corpus.sources import HUB_URL, Shards
from tatar_llm.corpus.wanted import Wanted, remembered
from tatar_llm.errors import TatarLLMError, nearest
from tatar_llm.waiting import within
from tatar_llm.workspace import read_json, write_json

LIST = "shards.json"
"""Beside the shards: {dataset, files, commit, shards: [{path, bytes, sha256}]}, kept to until it is deleted."""
NEEDED = ("huggingface_hub", "pyarrow")


def fetch_shards(source: Shards, raw: Path, limit_bytes: int, patience: Patience) -> tuple[list[Path], dict[str, Any]]:
    """The verified parquet files of a data set, in order, and their list; without network if all of them are there.

    With `limit_bytes` no more shards than surely hold as much text. Raises SourceUnavailable when the site or a file
    cannot be had, TatarLLMError when the extra is not installed or the set has no such part.
    """
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        raise TatarLLMError(f'{source.name} needs two more libraries: pip install huggingface_hub pyarrow')
    folder = shard_folder(source, raw)
    known = recorded(source, raw)
    found = known or _listed(source, folder, patience)
    try:
        return _fetch_all(source, folder, found, limit_bytes, patience), found
    except SourceUnavailable as error:
        if not known or "HTTP 404" not in str(error):  # authors rewrite their history: a version may vanish
            raise
        try:
            found = _listed(source, folder, patience)
        except TatarLLMError:
            raise error from None
        if found["commit"] == known["commit"]:
            raise
        console.say(f"{source.name}: version {known['commit'][:8]} cannot be had any more, taking {found['commit'][:8]}")
        return _fetch_all(source, folder, found, limit_bytes, patience), found


def shard_folder(source: Shards, raw: Path) -> Path:
    """Where the set's files lie: data/raw/fineweb2/tat_Cyrl, data/raw/tt-books."""
    return raw / source.name / source.config if source.config else raw / source.name


def recorded(source: Shards, raw: Path) -> dict[str, Any] | None:
    """The list of shards that an earlier download recorded, or None."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found = read_json(shard_folder(source, raw) / LIST)
        if (found["dataset"], found["files"]) == (source.dataset, source.files) and found["commit"] and found["shards"]:
            return found
    return None


def enough(found: dict[str, Any], limit_bytes: int) -> list[dict[str, Any]]:
    """The first shards, as many as plainly hold `limit_bytes` of clean text (0: all).

    A byte of parquet is about three of text (fineweb2: 513 MB for 1.64 GB), of which cleaning may drop most.
    """
    taken: list[dict[str, Any]] = []
    for shard in found["shards"]:
        if limit_bytes and sum(one["bytes"] for one in taken) >= 3 * limit_bytes:
            break
        taken.append(shard)
    return taken


def identity(found: dict[str, Any], limit_bytes: int) -> str | None:
    """One SHA-256 for the shards that will be read, or None where the site published none for one of them."""
    sums = [shard["sha256"] for shard in enough(found, limit_bytes)]
    return sha256("\n".join(sums).encode()).hexdigest() if all(sums) else None


def site() -> str:
    """Where the data sets are: HF_ENDPOINT, or the site itself."""
    return (os.environ.get("HF_ENDPOINT") or HUB_URL).rstrip("/")


def _fetch_all(
    source: Shards, folder: Path, found: dict[str, Any], limit_bytes: int, patience: Patience
) -> list[Path]:
    def wanted(number: int, shard: dict[str, Any], token: str = "") -> Wanted:
        url = f"{site()}/datasets/{source.dataset}/resolve/{found['commit']}/{quote(shard['path'])}"
        return Wanted(
            f"{source.name} ({number} of {len(shards)})", PurePosixPath(shard["path"]).name, (url,), shard["bytes"],
            shard["sha256"], "parquet", token, _login(source),
        )  # fmt: skip

    shards = enough(found, limit_bytes)
    here = all(remembered(wanted(0, shard), folder) for shard in shards)
    token = "" if here else _token()
    return [fetch(wanted(number, shard, token), folder, patience)[0] for number, shard in enumerate(shards, 1)]


def _token() -> str:
    from huggingface_hub import get_token

    return get_token() or ""


def _login(source: Shards) -> str:
    return (
        f"which asks for a login: accept the terms on {site()}/datasets/{source.dataset}, make a token on "
        f"{site()}/settings/tokens and set it as HF_TOKEN"
    )


def _listed(source: Shards, folder: Path, patience: Patience) -> dict[str, Any]:
    """Ask the site for the newest version's files, and record them."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint=site())
    found: dict[str, Any] = {}
    failures = 0
    while not found:
        try:
            found = within(patience.stall, lambda: _newest(source, api))
        except HfHubHTTPError as error:
            failures += 1
            if error.response.status_code not in BUSY or failures > patience.retries:
                _explain(source, error.response.status_code)
            time.sleep(pause(failures, retry_after(error.response.headers), patience))
        except Exception as error:  # whatever the library's transport raises, which was requests once and is httpx now
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise SourceUnavailable(
                f"the files of {source.name} could not be listed ({site()}: {reason}): check the connection and run the "
                f"same command again, or give a file of your own with --source PATH"
            ) from None
    if not found["shards"]:
        raise TatarLLMError(_no_such_part(source, api, patience))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / LIST, found)
    return found


def _newest(source: Shards, api: Any) -> dict[str, Any]:
    """The newest version of a data set and its shards; none where the folder is missing."""
    from huggingface_hub.errors import HfHubHTTPError

    place, _, pattern = source.files.rpartition("/")
    commit = api.dataset_info(source.dataset, expand=["sha"]).sha
    try:
        tree = list(api.list_repo_tree(source.dataset, place or None, revision=commit, repo_type="dataset"))
    except HfHubHTTPError as error:
        if error.response.status_code != 404:
            raise
        tree = []
    files = [file for file in tree if _is_file(file) and fnmatch.fnmatch(PurePosixPath(file.path).name, pattern)]
    shards = [
        {"path": file.path, "bytes": file.size, "sha256": file.lfs.sha256 if file.lfs else None}
        for file in sorted(files, key=lambda file: file.path)
    ]
    return {"dataset": source.dataset, "files": source.files, "commit": commit, "shards": shards}


def _is_file(item: Any) -> bool:
    return hasattr(item, "size")  # a folder of the tree has none


def _explain(source: Shards, status: int) -> NoReturn:
    if status in (401, 403):
        raise SourceUnavailable(
            f"{source.name} could not be had: {source.dataset} does not exist on {site()}, or is one {_login(source)}"
        )
    if status == 404:
        raise SourceUnavailable(f"{source.name} could not be had: {site()} has no data set {source.dataset}")
    raise SourceUnavailable(f"{source.name} could not be had: {site()} answered HTTP {status}; try again later")


def _no_such_part(source: Shards, api: Any, patience: Patience) -> str:
    """What to say where a set has no file for the language: which parts it has, if the site tells."""
    text = f"{source.dataset} has no files {source.files}"
    if not source.config:
        return f"{text}: its authors have moved them; take another source (tatar-llm prepare --list)"
    place, _, prefix = source.files.partition(source.config)[0].rpartition("/")

    def ask() -> list[str]:
        tree = api.list_repo_tree(source.dataset, place or None, repo_type="dataset")
        names = [PurePosixPath(item.path).name for item in tree if not _is_file(item)]
        return [name.removeprefix(prefix) for name in names if name.startswith(prefix)]

    parts: list[str] = []
    with contextlib.suppress(Exception):  # the error is reported either way
        parts = within(patience.stall, ask)
    if not parts:
        return text
    alike = [part for part in parts if part[:2] == source.config[:2]] or parts
    shown = ", ".join(alike[:20]) + (f" and {len(parts) - len(alike[:20])} more" if len(parts) > len(alike[:20]) else "")
    return f"{text}: it has no part {source.config!r}{nearest(source.config, parts)}, but {shown}"
