"""What a training reads: token files, tokenizer, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tatar_llm.errors import TatarLLMError
from tatar_llm.tokenizer import TokenFile, load_tokenizer, read_tokens
from tatar_llm.workspace import Workspace


@dataclass(frozen=True)
class Inputs:
    """What a run reads: token files, tokenizer, and where they came from."""

    train: TokenFile
    val: TokenFile
    tokenizer_config: dict[str, Any]
    manifest: dict[str, Any]
    corpus: dict[str, Any]


def read_inputs(workspace: Workspace) -> Inputs:
    """Everything from the workspace that belongs together; raises TatarLLMError where something does not."""
    manifest = workspace.manifest(workspace.need(workspace.tokens_manifest, "tatar-llm tokenizer"))
    corpus = workspace.manifest(workspace.need(workspace.corpus_manifest, "tatar-llm prepare"))
    if manifest is None or corpus is None:
        raise TatarLLMError("the manifests below data/ are damaged: run `tatar-llm prepare` and `tatar-llm tokenizer`")
    _, config = load_tokenizer(workspace.need(workspace.tokenizer, "tatar-llm tokenizer"))
    if config["tokenizer_sha256"] != manifest["tokenizer_sha256"]:
        raise TatarLLMError("tokenizer and token files do not belong together: run `tatar-llm tokenizer` again")
    train_file, val_file = (read_tokens(workspace.tokens / f"{name}.bin") for name in ("train", "val"))
    if max(int(file.ids.max(initial=0)) for file in (train_file, val_file)) >= config["vocab_size"]:
        raise TatarLLMError("the token files hold ids outside the vocabulary: run `tatar-llm tokenizer` again")
    return Inputs(train_file, val_file, config, manifest, corpus)
