"""Word suggestions by the protocol of the published Tatar keyboard, beside a table of word triples.

    python benchmarks/suggest.py [--workspace DIR] [--model NNN] [--sentences 300]

Sentences of 3 to 12 words, evenly spread over the workspace's held-out text. Without context: every distinct word, after 1, 2 and 3
letters alone. With context: every word from the words before it, no letter typed. Among three suggestions. The triples are counted on
the workspace's training text. Time on one core; nothing else should run.
"""

from __future__ import annotations

import argparse
import time

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--workspace", default=".")
    parser.add_argument("--model", default="")
    parser.add_argument("--sentences", type=int, default=300)
    args = parser.parse_args()
    import torch

    from tatar_llm.evaluation.suggestions import WORD, WordTrigram, sentences
    from tatar_llm.evaluation.suite import read_subject
    from tatar_llm.generation import Suggester
    from tatar_llm.training import find_model
    from tatar_llm.workspace import Workspace

    torch.set_num_threads(1)
    workspace = Workspace(args.workspace)
    subject = read_subject(workspace, find_model(workspace, args.model))
    lines = sentences(workspace.val_text.read_text(encoding="utf-8"), args.sentences * 7)
    words = sorted({word for line in lines for word in WORD.findall(line)})
    suggester, trigram = Suggester(*subject.all), WordTrigram.of_file(workspace.train_text)
    suggester.suggest("")
    seconds: list[float] = []

    def model(text: str) -> list[str]:
        began = time.perf_counter()
        found = [one.word for one in suggester.suggest(text, 3)]
        seconds.append(time.perf_counter() - began)
        return found

    print(f"{subject.name}, {subject.config.parameters() / 1e6:.1f} M parameters; {len(lines)} sentences, {len(words)} distinct words\n")
    print("| right word among three | model | word triples |\n|---|---:|---:|")
    for letters in (1, 2, 3):
        mine = [word for word in words if len(word) > letters]
        right = [[word in suggest(word[:letters]) for word in mine] for suggest in (model, trigram.suggest)]
        print(f"| after {letters} letters, no context (n = {len(mine)}) | {np.mean(right[0]):.1%} | {np.mean(right[1]):.1%} |")
    places = [(line[: match.start()], match[0]) for line in lines for match in list(WORD.finditer(line))[1:]]
    right = [[word in suggest(before) for before, word in places] for suggest in (model, trigram.suggest)]
    print(f"| the next word, context alone (n = {len(places)}) | {np.mean(right[0]):.1%} | {np.mean(right[1]):.1%} |")
    typed = [line[:end] for line in lines[:60] for end in range(len(line))]  # every key press of a text
    seconds.clear()
    for text in typed:
        model(text)
    middle, most = np.quantile(seconds, [0.5, 0.95]) * 1000
    print(f"\nTyping {len(typed):,} letters: a suggestion takes {middle:.0f} ms of one core (median), 95 of 100 at most {most:.0f} ms")


if __name__ == "__main__":
    main()
