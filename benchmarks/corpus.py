"""Speed and memory of `prepare`: sentences like Leipzig's, from archive to train.txt and val.txt.

    python benchmarks/corpus.py PATH/tat_dirty_2024_100K.tar.gz [--sentences 1000000] [--processes 0] [--peer]

The sentences: first the archive's own, with its repeats; then as many copies of it as needed, in which each good line is
made anew, as long as it was, from runs of three words from anywhere in the text, and the bad lines repeat. Prints seconds, peak memory of all processes against the bound of
400 MB + 100 bytes a kept line, and seconds by step. --peer runs the same rules through datasets.map (no search for
repeats, no files) and prints the ratio.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

from tatar_llm.config import CorpusConfig
from tatar_llm.corpus.clean import Cleaner
from tatar_llm.corpus.language import cld2
from tatar_llm.corpus.readers import read_documents
from tatar_llm.languages import load_language


def make_archive(given: Path, path: Path, sentences: int) -> None:
    """Write an archive of so many sentences in Leipzig's format."""
    lines = [lines[0] for lines in read_documents(given)]
    cleaner = Cleaner(load_language("tat"), CorpusConfig(), cld2())
    good = [cleaner.verdict(cleaner.mend(line), True) is None for line in lines]
    words = [word for line, kept in zip(lines, good, strict=True) if kept for word in line.split()]
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text"
        with open(text, "w", encoding="utf-8", newline="\n") as file:
            for number in range(sentences):
                place = number % len(lines)
                line = lines[place]
                if number >= len(lines) and good[place]:  # the first copy is the archive itself, with its repeats
                    line = " ".join(runs(words, len(line.split()), draw))
                file.write(f"{number + 1}\t{line}\n")
        with tarfile.open(path, "w:gz", compresslevel=6) as archive:
            name = path.name.removesuffix(".tar.gz")
            before = b"1\tword\t1\n" * (sentences // 2)  # what stands before the sentences in the real archives
            info = tarfile.TarInfo(f"{name}/{name}-words.txt")
            info.size = len(before)
            archive.addfile(info, io.BytesIO(before))
            archive.add(text, f"{name}/{name}-sentences.txt")


def runs(words: list[str], count: int, draw: random.Random) -> list[str]:
    """So many words, in runs of three from anywhere in the text."""
    found: list[str] = []
    while len(found) < count:
        start = draw.randrange(len(words) - 3)
        found += words[start : start + 3]
    return found[:count]


def measured(command: list[str]) -> tuple[float, int]:
    """Seconds, and peak bytes of memory of the command and its children together."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.25):
            peak = max(peak, sum(map(memory, family(process.pid))))

    thread = threading.Thread(target=watch)
    thread.start()
    code = process.wait()
    done.set()
    thread.join()
    if code:
        sys.exit(f"{' '.join(command)} ended with {code}")
    return time.perf_counter() - started, peak


def family(pid: int) -> list[int]:
    """A process and its descendants (Linux)."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children") if Path(f"/proc/{pid}").exists() else ():
        try:
            for child in task.read_text().split():
                found += family(int(child))
        except OSError:
            continue
    return found


def memory(pid: int) -> int:
    """Bytes that a process holds for itself, shared pages by their share; the cache of files on disk does not count (Linux)."""
    try:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(row.split()[1]) * 1024 for row in rows if row.startswith("Pss_Anon:") or row.startswith("Pss_Shmem:"))


def peer(archive: Path, processes: int) -> float:
    """Seconds of the same rules through datasets.map and filter."""
    import datasets

    datasets.disable_progress_bars()
    cleaner = Cleaner(load_language("tat"), CorpusConfig(), cld2())
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        table = datasets.Dataset.from_generator(
            lambda: ({"text": lines[0]} for lines in read_documents(archive)), cache_dir=cache)  # fmt: skip

        def clean(row: dict[str, str]) -> dict[str, object]:
            mended = cleaner.mend(row["text"])
            return {"text": mended, "keep": cleaner.verdict(mended, True) is None}

        table = table.map(clean, num_proc=processes).filter(lambda row: row["keep"], num_proc=processes)
        with open(Path(cache) / "text.txt", "w", encoding="utf-8") as file:
            for row in table:
                file.write(row["text"] + "\n")
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--sentences", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--peer", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / f"tat_made_{args.sentences}.tar.gz"
        make_archive(args.archive, archive, args.sentences)
        print(f"{args.sentences:,} sentences, archive of {archive.stat().st_size / 1e6:.0f} MB", flush=True)
        workspace = Path(folder) / "workspace"
        seconds, peak = measured([sys.executable, "-m", "tatar_llm", "prepare", "--source", str(archive), "--workspace",
                                  str(workspace), "--processes", str(args.processes)])  # fmt: skip
        report = json.loads((workspace / "data/processed/report.json").read_text(encoding="utf-8"))
        kept = report["totals"]["lines"]
        bound = 400e6 + 100 * kept
        print(f"\n| sentences | kept | seconds | sentences/s | peak memory | bound |\n|---:|---:|---:|---:|---:|---:|\n"
              f"| {args.sentences:,} | {kept:,} | {seconds:.1f} | {args.sentences / seconds:,.0f} | {peak / 1e6:.0f} MB | {bound / 1e6:.0f} MB |\n")
        print("| step | lines in | changed | dropped | seconds of one core |\n|---|---:|---:|---:|---:|")
        for name, row in report["rules"].items():
            if row["seconds"] >= 0.05:
                print(f"| {name} | {row['in']:,} | {row['changed']:,} | {row['dropped']:,} | {row['seconds']:.1f} |")
        if args.peer:
            processes = args.processes or os.cpu_count() or 1
            other = peer(archive, processes)
            print(f"\ndatasets.map, {processes} processes, the same rules without repeats: {other:.1f} s, {other / seconds:.2f} x ours")


if __name__ == "__main__":
    main()
