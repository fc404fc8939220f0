"""From sources to clean text: download, read, clean, drop repeats, split, report.

    >>> from tatar_llm.corpus import prepare
    >>> manifest = prepare(CorpusConfig(source=("sample",)), Workspace("somewhere"))  # doctest: +SKIP

The names are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {"prepare": "tatar_llm.corpus.preparation", "read_documents": "tatar_llm.corpus.readers"}

__all__ = ["prepare", "read_documents"]

if TYPE_CHECKING:
    from tatar_llm.corpus.preparation import prepare
    from tatar_llm.corpus.readers import read_documents


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'tatar_llm.corpus' has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
