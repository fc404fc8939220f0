"""DEPLOYMENT.md and the Dockerfile say what is true of the commands and files that there are."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from tatar_llm.cli import parse

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "DEPLOYMENT.md"
DOCKERFILE = ROOT / "Dockerfile"
pytestmark = pytest.mark.skipif(not DOCKERFILE.is_file(), reason="not a checkout")


def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def test_every_command_is_one() -> None:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page(), re.S | re.M)
    lines = [line for language, block in blocks if language in ("", "bash") for line in block.splitlines()]
    commands = [shlex.split(found[1], comments=True) for line in lines if (found := re.search(r"(?:^|\s|!)tatar-llm ([a-z].*)", line))]
    assert len(commands) >= 15
    for command in commands:
        parse(command)


def test_every_link_leads_somewhere() -> None:
    titles = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", page(), re.M)}
    for target in re.findall(r"\]\(([^)]+)\)", page()):
        if target.startswith("#"):
            assert target[1:] in titles, target
        elif "://" not in target:
            assert (ROOT / target).exists(), target


def test_a_space_gets_our_libraries() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    for line in wanted:
        assert line.startswith("torch") or f"\n{line}\n" in page(), line
    pinned = re.search(r"^torch==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)
    assert pinned and f"\ntorch=={pinned[1]}+cpu\n" in page()


def test_the_image() -> None:
    lines = DOCKERFILE.read_text(encoding="utf-8").splitlines()
    sent = set((ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for name in line.split()[1:-1]:
                assert (ROOT / name).exists() and f"!{name}" in sent, name
    last = {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in lines if " " in line}
    assert last["USER"] not in ("root", "0")
    assert parse(json.loads(last["CMD"])).host == "0.0.0.0" and json.loads(last["ENTRYPOINT"]) == ["tatar-llm"]
