"""Speed of encoding by tokenizers and by tiktoken, with the same ids; and what merges bounded by morpheme ends change.

    python benchmarks/encoding.py WORKSPACE [--vocab_size 8192] [--bytes 16000000] [--rounds 3]

WORKSPACE holds a corpus (`tatar-llm prepare` has been there). A BPE is learnt from so many bytes of its training text, spread
evenly over it, once plainly and once with --morphemes (Tatar). Speed is that of encoding lists of documents in memory, the two
ways in turn. Needs tiktoken (extra `fast`). Run it with nothing else on the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--vocab_size", type=int, default=8192)
    parser.add_argument("--bytes", type=int, default=16_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    threads = int(os.environ.setdefault("RAYON_NUM_THREADS", str(os.cpu_count() or 1)))  # of tokenizers; read once, before its import

    from tatar_llm.config import TokenizerConfig
    from tatar_llm.evaluation.segmentation import morpheme_agreement
    from tatar_llm.evaluation.tokenizers import VAL_BYTES, part_of
    from tatar_llm.tokenizer import encode_texts, fast, load_tokenizer, train_tokenizer
    from tatar_llm.tokenizer.baselines import ngram_baselines
    from tatar_llm.tokenizer.encode import cut
    from tatar_llm.workspace import Workspace, write_text

    workspace = Workspace(args.workspace)
    kind = workspace.manifest(workspace.corpus_manifest)["document"]
    texts, val = part_of(workspace.train_text, kind, args.bytes), part_of(workspace.val_text, kind, VAL_BYTES)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        write_text(Path(folder) / "text.txt", "".join(f"{text}\n" for text in texts))
        for morphemes in (False, True):
            settings = TokenizerConfig(vocab_size=args.vocab_size, morphemes=morphemes, train_file=f"{folder}/text.txt", output_dir=f"{folder}/{morphemes}")
            train_tokenizer(settings, workspace)
            found[morphemes] = load_tokenizer(settings.output_dir)
    print("| merges | tokens | morpheme ends that are token ends | characters a token | bigram, bits per byte |\n|---|---:|---:|---:|---:|")
    for morphemes, (tokenizer, config) in found.items():
        train, held = (encode_texts(tokenizer, config, part) for part in (texts, val))
        bigram = ngram_baselines(train.ids, held.ids, held.bytes, config["vocab_size"], config["bos_token_id"])["bigram"]
        print(f"| {'bounded' if morphemes else 'plain'} | {config['vocab_size']} | {morpheme_agreement(tokenizer).value:.1%} | "
              f"{sum(map(len, val)) / len(held.ids):.2f} | {bigram:.3f} |")  # fmt: skip
    tokenizer = found[False][0]
    fast.THREADS = threads
    rival = fast.tiktoken_way(tokenizer)
    if rival is None:
        print("tiktoken is not installed, or would give other ids")
        return 1
    pieces = [piece for text in texts for piece in cut(text)]
    size = sum(len(piece.encode()) for piece in pieces) / 1e6
    ways = {"tokenizers": lambda part: [one.ids for one in tokenizer.encode_batch_fast(part, add_special_tokens=False)], "tiktoken": rival}
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    same = ways["tokenizers"](pieces) == ways["tiktoken"](pieces)
    for _ in range(args.rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way(pieces)
            speeds[name].append(size / (time.perf_counter() - began))
    print(f"\n| {size:.1f} MB, threads: {threads}, ids {'equal' if same else 'DIFFERENT'} | MB/s | |\n|---|---:|---:|")
    first = statistics.median(speeds["tokenizers"])
    for name, rows in speeds.items():
        print(f"| {name} | {statistics.median(rows):.1f} ({min(rows):.1f} to {max(rows):.1f}) | {statistics.median(rows) / first:.1f}x |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
