"""Publishing, against a local server that does what the Hub does: logins, repositories, blobs, commits, refusals."""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import fake_hub
import pytest
from safetensors.torch import load

pytest.importorskip("huggingface_hub")
yaml = pytest.importorskip("yaml")

from tatar_llm import cli  # noqa: E402
from tatar_llm.corpus.download import Patience  # noqa: E402
from tatar_llm.errors import TatarLLMError, UsageError  # noqa: E402
from tatar_llm.export import hf as hf_module  # noqa: E402
from tatar_llm.export.hub import Publication, publish  # noqa: E402
from tatar_llm.model import GPT, save_model  # noqa: E402
from tatar_llm.training import ModelPlace  # noqa: E402
from tatar_llm.workspace import Workspace, sha256_file  # noqa: E402

FILES = ["README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
TOKEN = "hf_a_secret_of_sara"
REPO = "sara/tatar-small"
QUICK = Patience(stall=5.0)


class Repository:
    """Its files and commits."""

    def __init__(self, private: bool = True, files: dict[str, bytes] | None = None) -> None:
        self.private = private
        self.files = {".gitattributes": b"*.safetensors filter=lfs"} | (files or {})
        self.commits = ["0" * 40]
        self.messages = ["initial commit"]

    @property
    def tags(self) -> list[str]:
        head = self.files.get("README.md", b"").decode().split("---")
        return (yaml.safe_load(head[1]) or {}).get("tags", []) if len(head) > 2 else []


class Site(fake_hub.Hub):
    """Sara's account: she may write to her own repositories and to those of tatar-team."""

    def __init__(self) -> None:
        super().__init__(Handler)
        self.role = "write"
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[str] = []

    def times(self, part: str) -> int:
        return sum(part in path for path in self.asked)


class Handler(fake_hub.HubHandler):
    server: Site

    def do_GET(self) -> None:
        self.serve("GET")

    def do_POST(self) -> None:
        self.serve("POST")

    def do_PUT(self) -> None:
        self.serve("PUT")

    def serve(self, method: str) -> None:
        site, sent = self.server, self.body() if method != "GET" else b""
        path = unquote(urlsplit(self.path).path)
        if path == "/api/agent-harnesses":  # what the library asks for its own sake
            return self.json({}, 404)
        site.asked.append(f"{method} {path}")
        site.seen.append((path, self.headers.get("Authorization")))
        what, _, status = site.broken.partition(" ")
        if what and what in path:
            if status == "gone":
                return self.connection.close()
            if status == "page":
                return self.answer(200, b"<html>please log in to the hotel's network</html>", {})
            return self.json({"error": f"no: {TOKEN}"}, int(status))
        if path.startswith("/blobs/"):
            assert hashlib.sha256(sent).hexdigest() == path.rpartition("/")[2]
            site.blobs[path.rpartition("/")[2]] = sent
            return self.answer(200, b"", {})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.json({"error": "Invalid credentials"}, 401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        if path == "/api/whoami-v2":
            orgs = [{"name": "tatar-team", "roleInOrg": "write"}, {"name": "library", "roleInOrg": "read"}]
            return self.json({"type": "user", "name": "sara", "orgs": orgs, "auth": {"accessToken": {"role": site.role}}})
        if path == "/api/repos/create":
            return self.create(json.loads(sent))
        if path == "/api/validate-yaml":
            assert yaml.safe_load(json.loads(sent)["content"].split("---")[1])["tags"] == ["tatar-llm"]
            return self.json({"errors": [], "warnings": []})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.batch(json.loads(sent))
        name = "/".join(path.removeprefix("/api/models/").split("/")[:2])
        if name not in site.repositories:
            return self.json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        repository = site.repositories[name]
        if path.endswith("/preupload/main"):
            return self.json({"files": [
                {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular", "shouldIgnore": False}
                for file in json.loads(sent)["files"]
            ]})  # fmt: skip
        if path.endswith("/commit/main"):
            return self.commit(name, repository, [json.loads(line) for line in sent.splitlines()])
        return self.json({"id": name, "sha": repository.commits[-1], "private": repository.private, "tags": repository.tags,
                          "siblings": [{"rfilename": file} for file in repository.files]})  # fmt: skip

    def create(self, wanted: dict[str, Any]) -> None:
        name = f"{wanted.get('organization') or 'sara'}/{wanted['name']}"
        assert wanted.get("type", "model") == "model"
        private = wanted["visibility"] == "private" if "visibility" in wanted else wanted["private"]
        self.server.repositories[name] = Repository(private)
        self.json({"url": f"{self.server.url}/{name}", "name": name})

    def batch(self, wanted: dict[str, Any]) -> None:
        rows: list[dict[str, Any]] = []
        for one in wanted["objects"]:
            row = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.server.blobs:
                row["actions"] = {"upload": {"href": f"{self.server.url}/blobs/{one['oid']}"}}
            rows.append(row)
        self.json({"transfer": "basic", "objects": rows})

    def commit(self, name: str, repository: Repository, lines: list[dict[str, Any]]) -> None:
        head, *changes = lines
        if head["value"].get("parentCommit") not in (None, repository.commits[-1]):
            return self.json({"error": "A commit has happened since. Please refresh and try again."}, 412)
        for change in changes:
            value = change["value"]
            whole = base64.b64decode(value["content"]) if change["key"] == "file" else self.server.blobs[value["oid"]]
            repository.files[value["path"]] = whole
        repository.commits.append(hashlib.sha1(str(len(repository.commits)).encode()).hexdigest())
        repository.messages.append(head["value"]["summary"])
        return self.json({"commitUrl": f"{self.server.url}/{name}/commit/{repository.commits[-1]}", "commitOid": repository.commits[-1]})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    server = Site()
    with fake_hub.at_work(server, tmp_path / "hf", monkeypatch):
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # blobs go by the older way, which is plain HTTP
        monkeypatch.setattr(time, "sleep", lambda _: None)  # the library waits between its tries
        yield server


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without loading the export in transformers, which test_hf.py does."""
    monkeypatch.setattr(hf_module, "_need_transformers", lambda: None)
    monkeypatch.setattr(hf_module, "_check", lambda *_: None)
    monkeypatch.setattr(hf_module, "gc", SimpleNamespace(collect=lambda: None))  # 0.2 s each time


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "эш")


@pytest.fixture
def place(tiny_model: GPT, tiny_workspace: Workspace, workspace: Workspace) -> ModelPlace:
    digest = sha256_file(tiny_workspace.tokenizer / "tokenizer.json")
    model = workspace.runs / "001-tiny" / "best_model.pt"
    save_model(model, tiny_model, step=12, val={"bits_per_byte": 1.234}, language="tat", corpus="sample", tokenizer_sha256=digest)
    return ModelPlace("001-tiny", model, tiny_workspace.tokenizer)


def refused(workspace: Workspace, place: ModelPlace, repo: str = REPO, **wanted: Any) -> str:
    with pytest.raises(TatarLLMError) as caught:
        publish(workspace, place, Publication(repo, **wanted), QUICK)
    said = str(caught.value)
    assert "\n" not in said and TOKEN not in said and caught.value.__cause__ is None
    return said


def test_a_new_repository_is_private_and_holds_what_was_shown(
    site: Site, workspace: Workspace, place: ModelPlace, capfd: pytest.CaptureFixture[str]
) -> None:
    done = publish(workspace, place, Publication(REPO, message="беренче"), QUICK)
    told = capfd.readouterr()
    assert TOKEN not in told.out + told.err and told.out == ""
    repository = site.repositories[REPO]
    assert repository.private and repository.messages == ["initial commit", "беренче"]
    assert (done["public"], done["created"], done["commit"], done["url"]) == (False, True, repository.commits[-1], f"{site.url}/{REPO}")
    assert [file["path"] for file in done["files"]] == FILES == sorted(set(repository.files) - {".gitattributes"})
    for file in done["files"]:
        held = repository.files[file["path"]]
        assert (len(held), hashlib.sha256(held).hexdigest()) == (file["bytes"], file["sha256"])
        assert f"{file['path']:24} {file['bytes']:>14,} bytes" in told.err
    assert "model.embed_tokens.weight" in load(repository.files["model.safetensors"])
    assert f'name = "{REPO}"' in repository.files["README.md"].decode() == done["card"]
    assert {token for path, token in site.seen if "/blobs/" not in path} == {f"Bearer {TOKEN}"}
    assert {token for path, token in site.seen if "/blobs/" in path} == {None}, "the store of blobs has its own signed addresses"
    assert not list(workspace.root.rglob("exports")), "the export was temporary"


def test_a_public_one_of_an_organisation(site: Site, workspace: Workspace, place: ModelPlace) -> None:
    done = publish(workspace, place, Publication("tatar-team/x", public=True, dtype="bfloat16"), QUICK)
    assert done["public"] and not site.repositories["tatar-team/x"].private
    assert json.loads(site.repositories["tatar-team/x"].files["config.json"])["dtype"] == "bfloat16"
    assert site.repositories["tatar-team/x"].messages[-1].startswith("001-tiny, tatar-llm ")


def test_a_dry_run_asks_nothing_and_needs_no_login(
    site: Site, workspace: Workspace, place: ModelPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    done = publish(workspace, place, Publication(REPO, dry_run=True), QUICK)
    assert site.asked == [] and done["commit"] is None and [file["path"] for file in done["files"]] == FILES
    assert done["card"].startswith("---\nlanguage:") and not done["created"]


def test_a_login_on_disk_is_enough(site: Site, workspace: Workspace, place: ModelPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text(TOKEN, encoding="utf-8")
    assert publish(workspace, place, Publication(REPO), QUICK)["created"]


def test_the_next_version_is_a_commit_and_sends_no_blob_twice(
    site: Site, workspace: Workspace, place: ModelPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(workspace, place, Publication(REPO), QUICK)
    again = publish(workspace, place, Publication(REPO, licence="cc-by-4.0"), QUICK)
    assert not again["created"] and len(site.repositories[REPO].commits) == 3
    assert "license: cc-by-4.0\n" in again["card"] and site.times("PUT /blobs/") == 1
    assert "the version before stays in its history" in capsys.readouterr().err


# -- who may ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("", "not logged in to the Hub: make a token with the right to write on .*/settings/tokens, then .*hf auth login.*HF_TOKEN"),
        ("hf_expired", "could not log in: the Hub does not take this token"),
        ("минем токен", "is none: it holds spaces or letters"),
    ],
)
def test_logins(site: Site, workspace: Workspace, place: ModelPlace, monkeypatch: pytest.MonkeyPatch, token: str, said: str) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(hf_module, "_check", lambda *_: pytest.fail("exported before the login was known"))
    with pytest.raises(TatarLLMError, match=said) as caught:
        publish(workspace, place, Publication(REPO), QUICK)
    assert not token or token not in str(caught.value)


def test_what_a_login_may_not(site: Site, workspace: Workspace, place: ModelPlace) -> None:
    assert "you are sara on the Hub, and belong to library, tatar-team: you cannot write to somebody. Take sara/x" in refused(
        workspace, place, "somebody/x"
    )
    assert "sara may only read in the organisation library" in refused(workspace, place, "library/x")
    site.role = "read"
    assert "the token of sara may only read" in refused(workspace, place)
    assert site.repositories == {}


def test_no_requests_where_they_are_forbidden(site: Site, workspace: Workspace, place: ModelPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused(workspace, place) and site.asked == []


@pytest.mark.parametrize(
    "repo", ["", "tatar", "sara/", "/tatar", "a/b/c", "сара/модель", "sara/a b", "sara/a--b", "sara/-a", "sara/a.", "sara/x.git",
             "https://huggingface.co/sara/x", "../x", "sara/" + "a" * 100]
)  # fmt: skip
def test_names_that_the_hub_does_not_take(site: Site, workspace: Workspace, place: ModelPlace, repo: str) -> None:
    with pytest.raises(UsageError):
        publish(workspace, place, Publication(repo, dry_run=True), QUICK)
    with pytest.raises(UsageError, match="licence"):
        publish(workspace, place, Publication(REPO, licence="Mine\n- x: y"), QUICK)
    assert site.asked == []


def test_without_the_library(workspace: Workspace, place: ModelPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(TatarLLMError, match=r'pip install "transformers>=5\.0" huggingface_hub'):
        publish(workspace, place, Publication(REPO, dry_run=True), QUICK)


# -- what is there already -------------------------------------------------------------------------------------------


def test_something_else_is_not_mixed_with(site: Site, workspace: Workspace, place: ModelPlace) -> None:
    files = {"pytorch_model.bin": b"ten years", "config.json": b"{}", "README.md": b"---\ntags:\n- other\n---\n"}
    site.repositories[REPO] = Repository(files=files)
    said = refused(workspace, place)
    assert "exists and holds something that was not published from here (README.md, config.json, pytorch_model.bin)" in said
    assert "An upload is a commit" in said and len(site.repositories[REPO].commits) == 1
    publish(workspace, place, Publication(REPO, force=True), QUICK)
    assert site.repositories[REPO].files["pytorch_model.bin"] == b"ten years"


def test_nothing_is_shown_to_everyone_unasked(
    site: Site, workspace: Workspace, place: ModelPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    site.repositories[REPO] = Repository(private=False)
    assert "everyone can see it: add --public" in refused(workspace, place)
    assert publish(workspace, place, Publication(REPO, public=True), QUICK)["public"]
    site.repositories[REPO] = Repository(private=True)
    assert not publish(workspace, place, Publication(REPO, public=True), QUICK)["public"]
    assert "is private and stays so" in capsys.readouterr().err


def test_somebody_else_was_quicker(site: Site, workspace: Workspace, place: ModelPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = site.repositories[REPO] = Repository()
    monkeypatch.setattr(hf_module, "_check", lambda *_: repository.commits.append("1" * 40))
    assert "somebody else has changed it meanwhile. Nothing was committed: the repository is as it was" in refused(workspace, place)


# -- what fails ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("whoami 503", "could not log in: the Hub answered HTTP 503; try again later"),
        ("whoami page", "could not log in: what answers at http://127.* is not the Hub"),
        ("whoami gone", "could not log in: http://127.* cannot be reached"),
        ("api/models 500", "could not look at sara/tatar-small: the Hub answered HTTP 500"),
        ("repos/create 403", r"could not make sara/tatar-small: the token has no right to that \(no: \*\*\*\)"),
        ("repos/create 409", "could not make sara/tatar-small: it exists, but the token may not see it"),
        ("validate-yaml 400", "upload to sara/tatar-small: Invalid metadata in README.md.*Nothing was committed"),
        ("preupload 403", "upload to sara/tatar-small: the token has no right to that.*Nothing was committed: the repository is there and empty"),
        ("objects/batch 500", "the Hub answered HTTP 500; try again later. Nothing was committed"),
        ("blobs 500", "the Hub answered HTTP 500; try again later. Nothing was committed"),
        ("blobs gone", "cannot be reached .*; check the connection. Nothing was committed"),
        ("commit 500", "the Hub answered HTTP 500; try again later. Nothing was committed: .* what has arrived is not sent twice"),
    ],
)  # fmt: skip
def test_failures_leave_nothing_half_done(
    site: Site, workspace: Workspace, place: ModelPlace, broken: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    site.broken = broken
    with pytest.raises(TatarLLMError, match=said) as caught:
        publish(workspace, place, Publication(REPO), QUICK)
    told = capfd.readouterr()
    assert "\n" not in str(caught.value) and TOKEN not in str(caught.value) + told.err and "blobs" not in told.err
    assert all(len(repository.commits) == 1 for repository in site.repositories.values())
    blobs = len(site.blobs)
    site.broken = ""
    assert publish(workspace, place, Publication(REPO), QUICK)["commit"]
    assert blobs == (broken == "commit 500") and site.times("PUT /blobs/") <= (7 if broken.startswith("blobs") else 1)


def test_no_network(workspace: Workspace, place: ModelPlace, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "could not log in: http://127.0.0.1:9 cannot be reached" in refused(workspace, place)


def test_a_hub_that_never_answers(workspace: Workspace, place: ModelPlace, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "serve", lambda *_: site._BaseServer__is_shut_down.wait(2))
    with pytest.raises(TatarLLMError, match=r"cannot be reached \(no answer within 0.2 s\)"):
        publish(workspace, place, Publication(REPO), Patience(stall=0.2))


# -- the command -----------------------------------------------------------------------------------------------------


def test_the_command(
    site: Site, workspace: Workspace, place: ModelPlace, tiny_workspace: Workspace, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("tatar_llm.training.find_model", lambda *_: place)
    flags = ["publish", REPO, "--workspace", str(workspace.root)]
    assert cli.main([*flags, "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["dry_run"] and told["repo"] == REPO and site.asked == []
    assert cli.main([*flags, "--dry_run"]) == 0
    assert capsys.readouterr().out.startswith("---\nlanguage:")
    assert cli.main(flags) == 0
    assert capsys.readouterr().out == f"{site.url}/{REPO}\n" and REPO in site.repositories


def test_the_shipped_model_needs_no_publishing(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["publish", REPO, "--workspace", str(workspace.root)]) == 1
    assert "the shipped model needs no publishing" in capsys.readouterr().err
