"""Choose the minimal pairs that ship: python scripts/pairs.py --workspace DIR > .../pairs.jsonl

DIR holds the corpus `sample` with its tokenizer and token files. A pair is taken when its sentences stand nowhere in the
sample, when the two forms in which it differs both occur in the sample or neither does, and in such a mixture that a
Kneser-Ney bigram over the sample's tokens prefers the right sentence in about half of each phenomenon.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys

import numpy as np

from tatar_llm.corpus.sources import Sample
from tatar_llm.evaluation.copying import words
from tatar_llm.grammar.generate import documents
from tatar_llm.grammar.pairs import PHENOMENA, candidates
from tatar_llm.tokenizer import encode_text, load_tokenizer, read_tokens
from tatar_llm.tokenizer.baselines import KneserNey
from tatar_llm.workspace import Workspace

EACH = 100
TRIED = 4000
BIGRAM_RIGHT = 0.52


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workspace", required=True)
    workspace = Workspace(parser.parse_args().workspace)
    text = "\n".join(file.read_text(encoding="utf-8") for file in Sample().files())
    text += "\n".join("\n".join(document) for document in documents(3_000_000))
    lines, known = set(text.split("\n")), set(words(text))
    tokenizer, config = load_tokenizer(workspace.tokenizer)
    bos = config["bos_token_id"]
    bigram = KneserNey(read_tokens(workspace.tokens / "train.bin").ids, 2, config["vocab_size"], bos)

    def nats(sentence: str) -> float:
        return float(bigram.nats(np.array([bos, *encode_text(tokenizer, sentence)], dtype=np.int64)).sum())

    total = 0
    for phenomenon in PHENOMENA:
        right, wrong = [], []
        for pair in itertools.islice(candidates(phenomenon), TRIED):
            forms = pair.good_form.lower(), pair.bad_form.lower()
            if {pair.good, pair.bad} & lines or (forms[0] in known) != (forms[1] in known):
                continue
            (right if nats(pair.good) < nats(pair.bad) else wrong).append(pair)
            if len(right) >= EACH and len(wrong) >= EACH:
                break
        count = min(round(EACH * BIGRAM_RIGHT), len(right))
        chosen = right[: max(count, EACH - len(wrong))] + wrong[: EACH - count]
        total += min(max(count, EACH - len(wrong)), EACH)
        print(f"{phenomenon}: {len(right)} the bigram gets right, {len(wrong)} wrong; {len(chosen)} chosen", file=sys.stderr)
        for pair in sorted(chosen[:EACH], key=lambda pair: pair.good):
            json.dump({"phenomenon": phenomenon, "good": pair.good, "bad": pair.bad}, sys.stdout, ensure_ascii=False)
            sys.stdout.write("\n")
    print(f"bigram: {total / EACH / len(PHENOMENA):.1%}", file=sys.stderr)


if __name__ == "__main__":
    main()
