"""onnxruntime-web, which runs the graph in a browser: one version, known by its hash, fetched once and kept in data/raw."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from tatar_llm.console import say
from tatar_llm.corpus.wanted import Wanted, verified
from tatar_llm.errors import TatarLLMError, explain_os_error
from tatar_llm.workspace import Workspace, sha256_file

VERSION = "1.30.0"
PACKAGE = f"onnxruntime-web@{VERSION}"
ARCHIVE = f"onnxruntime-web-{VERSION}.tgz"
SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
SCRIPT, WASM = "package/dist/ort.wasm.bundle.min.mjs", "package/dist/ort-wasm-simd-threaded.wasm"
"""The smallest build that has the CPU's operators; on one thread it needs nothing that a file lacks."""
PATIENCE = 900
"""Seconds for npm to fetch 32 MiB."""


@dataclass(frozen=True)
class Runtime:
    """What the page holds of it."""

    script: str
    """JavaScript that defines `onnxruntime`, a promise of the module."""
    wasm: bytes


def read_runtime(workspace: Workspace, given: str = "") -> Runtime:
    """The runtime out of data/raw, after it was put there from the file `given` or by npm.

    Raises:
        TatarLLMError: `given` is not that very file; or there is none and npm is missing or cannot fetch it.
    """
    archive = workspace.raw / ARCHIVE
    if given:
        _keep(_checked(Path(given).expanduser()), archive)
    elif not verified(Wanted(PACKAGE, ARCHIVE, (), sha256=SHA256), workspace.raw):
        _fetch(archive)
    verified(Wanted(PACKAGE, ARCHIVE, (), sha256=SHA256), workspace.raw)  # remembers that it was
    try:
        with tarfile.open(archive, "r:gz") as files:
            script, wasm = (cast("IO[bytes]", files.extractfile(name)).read() for name in (SCRIPT, WASM))  # no file: AttributeError
    except (OSError, tarfile.TarError, KeyError, AttributeError) as error:
        raise TatarLLMError(f"{archive} cannot be read ({error}): delete it and run the same command again") from error
    return Runtime(as_script(script.decode("utf-8")), wasm)


def as_script(module: str) -> str:
    """A module as a plain script: a page from a file may start no worker from a module, and import none."""
    found = re.fullmatch(r"(.*)export\{([^{}]+)\};\s*(?://# sourceMappingURL=\S+\s*)?", module, re.S)
    assert found is not None  # the only module that is let in
    head, exported = found.groups()
    names = ",".join(f"{public or own}:{own}" for own, _, public in (name.partition(" as ") for name in exported.split(",")))
    head = head.replace("import.meta.url", '"blob:"')  # where it lies is asked for nothing but files that are not needed
    return f'const onnxruntime = (async () => {{"use strict";\n{head}\nreturn {{{names}}};\n}})();'


def _checked(file: Path) -> Path:
    if not file.is_file():
        raise TatarLLMError(f"--runtime {file} does not exist: `npm pack {PACKAGE}` fetches it")
    if sha256_file(file) != SHA256:
        raise TatarLLMError(f"{file} is not the archive of {PACKAGE} (its SHA-256 differs): `npm pack {PACKAGE}` fetches it")
    return file


def _keep(file: Path, archive: Path) -> None:
    """Copy into data/raw, whole or not at all."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    if archive.exists() and archive.samefile(file):
        return
    part = archive.with_name(f".{archive.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(file, part)
        os.replace(part, archive)
    except OSError as error:
        raise TatarLLMError(f"{archive} cannot be written: {explain_os_error(error)}") from error
    finally:
        part.unlink(missing_ok=True)


def _fetch(archive: Path) -> None:
    """Ask the user's own npm, which knows his registry, proxy and certificates."""
    npm = shutil.which("npm")
    if not npm:
        raise TatarLLMError(
            f"export web needs {PACKAGE}, which npm fetches, and there is no npm here: install Node.js, or run "
            f"`npm pack {PACKAGE}` on another machine and give the file with --runtime {ARCHIVE}"
        )
    say(f"fetching {PACKAGE} (32 MiB) with npm, this once")
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", PACKAGE, "--loglevel=error", "--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=2000"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", errors="replace",
                                  timeout=PATIENCE, check=False)  # fmt: skip
            reason = "" if done.returncode == 0 else _reason(done.stderr + done.stdout)
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = str(error)
        file = Path(folder) / ARCHIVE
        if reason or not file.is_file():
            raise TatarLLMError(
                f"npm could not fetch {PACKAGE} ({reason or 'it wrote no file'}): check the connection and run the same command "
                f"again, or fetch it elsewhere (`npm pack {PACKAGE}`) and give the file with --runtime {ARCHIVE}"
            )
        _keep(_checked(file), archive)


def _reason(said: str) -> str:
    if told := re.search(r"reason: (.+)", said):
        return told[1].strip()
    lines = [re.sub(r"^npm (error|ERR!) ", "", line).strip() for line in said.splitlines()]
    return next((line for line in lines if line and not line.startswith(("code ", "errno ", "syscall "))), "no reason given")
