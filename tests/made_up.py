"""Made-up Tatar lines, and a prepared corpus of them."""

from __future__ import annotations

import random

from tatar_llm.workspace import Workspace, sha256_file, write_json, write_text

WHO = ("Әби", "Бабай", "Әни", "Әти", "Апа", "Абый", "Укытучы", "Күрше")
WHEN = ("бүген", "хәзер", "иртән", "кичен")
WHERE = ("өйдә", "бакчада", "авылда", "мәктәптә", "урамда", "шәһәрдә")
WHAT = ("китап укый", "җыр җырлый", "чәй эчә", "хат яза", "су ташый", "эш эшли", "дустын көтә", "кар көри")


def tatar_lines(count: int, seed: int = 0) -> list[str]:
    """`count` simple sentences, always the same ones for a seed."""
    source = random.Random(seed)
    return [
        f"{source.choice(WHO)} {source.choice(WHEN)} {source.choice(WHERE)} {source.choice(WHAT)}."
        for _ in range(count)
    ]


def write_corpus(workspace: Workspace, train: list[str], val: list[str], document: str = "line") -> None:
    """A prepared corpus: documents (of several lines where `document` is "blank"), with the manifest that goes along."""
    end = "\n" if document == "line" else "\n\n"
    for path, documents in ((workspace.train_text, train), (workspace.val_text, val)):
        write_text(path, "".join(text + end for text in documents))
    facts = {"document": document, "language": "tat", "corpus": "made-up", "fallback": None}
    parts = {
        name: {"sha256": sha256_file(path), "bytes": path.stat().st_size, "lines": len(documents)}
        for name, path, documents in (("train", workspace.train_text, train), ("val", workspace.val_text, val))
    }
    write_json(workspace.corpus_manifest, facts | parts)
