"""From sources to clean text: download, read, clean, drop repeats, split, report.

    >>> from tatar_llm.corpus import prepare
    >>> manifest = prepare(CorpusConfig(source=("sample",)), Workspace("somewhere"))  # doctest: +SKIP
"""

from tatar_llm.corpus.preparation import prepare
from tatar_llm.corpus.readers import read_documents

__all__ = ["prepare", "read_documents"]
