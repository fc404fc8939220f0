"""Which vocabulary, attention, experts, context pay at small size: questions with a baseline each, at equal text and equal time.

    python benchmarks/ablations.py WORKSPACE GRID --out rows.jsonl --timing      # first, with nothing else on the machine
    python benchmarks/ablations.py WORKSPACE GRID --out rows.jsonl [--processes 2] [--seeds 3] [--retry]
    python benchmarks/ablations.py WORKSPACE GRID --out rows.jsonl --table

WORKSPACE holds a corpus (`tatar-llm prepare` has been there). The grid (benchmarks/grids/ablations.toml) names how much
of its text is used and what every network has in common; each question then lists its variants, the first the baseline:

    train_bytes = 2_000_000          # of text, once over; validation_bytes are held out
    validation_bytes = 300_000
    learn_bytes = 20_000_000         # what tokenizers learn from
    piece_characters = 12_000        # documents are cut into pieces of this length, spread over the whole corpus
    [base]                           # any setting of tokenizer, network or trainer
    n_layer = 3
    [questions.heads]                # may have: base = { n_layer = 6 }, passes = 0.5, timing_only = true
    [questions.heads.variants]
    "2 key-value heads" = {}
    "1 key-value head" = { n_kv_head = 1 }

Settings that the grid leaves out are those of `--minutes`. Equal text: every variant sees the same documents once. Equal
time: as many steps as the baseline's time pays for at the measured seconds a step, with a schedule of their own; a faster
network then sees some text twice. Where that is within 5 % of the steps of equal text, "=" stands for the same training.

The timing goes round all networks of a question, each in a process of its own with one thread. Memory is what the
training steps add to a process (gradients, optimizer, activations), weights left out. Trainings have one thread each.
Each is a line of the output file; those there are not done again. Variants are tried with one seed, the best two of each
question and the baseline with all. A tie differs from the baseline by less than twice the spread of the baseline's seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import multiprocessing
import signal
import statistics
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tatar_llm.config import GPTConfig, TokenizerConfig, TrainConfig, as_dict, field_names, from_values
from tatar_llm.console import say
from tatar_llm.errors import TatarLLMError
from tatar_llm.workspace import Workspace, fingerprint, write_json, write_text

TEXT, TIME = "equal text", "equal time"
SAME = 0.05  # share by which steps at equal time may differ from those at equal text and count as the same
ROUNDS = 15
WARM = 2  # steps before the timed ones


@dataclass(frozen=True)
class Variant:
    """One network of a question, with all that a training of it needs."""

    question: str
    name: str
    fingerprint: str
    error: str = ""
    timing_only: bool = False
    tokens: str = ""
    """The workspace with its token files."""
    model: GPTConfig = field(default_factory=GPTConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    steps: int = 0
    """At equal text."""
    bytes_per_token: float = 0.0

    @property
    def tokens_per_step(self) -> int:
        return self.train.batch_size * self.train.gradient_accumulation_steps * self.model.block_size


@dataclass(frozen=True)
class Job:
    """One training."""

    variant: Variant
    what: str
    steps: int
    seed: int

    @property
    def key(self) -> tuple:
        """Trainings with the same key are the same, in whichever question."""
        return self.variant.fingerprint, self.steps, self.seed


# -- text ------------------------------------------------------------------------------------------------------------


def pieces(path: Path, kind: str, characters: int) -> Iterator[str]:
    """The documents of a text; long ones cut at line ends into pieces of at least `characters`."""
    from tatar_llm.tokenizer.encode import documents

    for document in documents(path, kind):
        rest, piece = len(document), ""
        for line in document.splitlines(keepends=True):
            piece += line
            if len(piece) >= characters and rest - len(piece) >= characters:
                rest -= len(piece)
                yield piece.rstrip("\n")
                piece = ""
        yield piece.rstrip("\n")


def take_evenly(path: Path, kind: str, characters: int, wanted: int) -> str:
    """Pieces of a text, evenly spread over it, of about `wanted` bytes together; 0 takes all."""
    share = wanted / path.stat().st_size if wanted else 1.0
    seen, kept, chosen = 0, 0, []
    for piece in pieces(path, kind, characters):
        size = len(piece.encode())
        seen += size
        if kept + size / 2 <= share * seen:
            kept += size
            chosen.append(piece)
    return "".join(piece + ("\n" if kind == "line" else "\n\n") for piece in chosen)


def cut_texts(grid: dict, workspace: Workspace) -> dict[str, str]:
    """What is learnt from, trained on and held out."""
    kind = workspace.manifest(workspace.need(workspace.corpus_manifest, "tatar-llm prepare"))["document"]
    sources = {"learn": workspace.train_text, "train": workspace.train_text, "validation": workspace.val_text}
    texts = {
        name: take_evenly(path, kind, grid["piece_characters"], grid[f"{name}_bytes"]) for name, path in sources.items()
    }
    if not all(texts.values()):
        raise TatarLLMError("a document is longer than what the grid wants of the text: take more bytes or smaller pieces")
    return texts


def encoded(settings: TokenizerConfig, name: str, texts: dict[str, str], workspace: Workspace) -> tuple[str, dict]:
    """A workspace below data/ablations with the grid's text in the tokens of one tokenizer, and its manifest."""
    from tatar_llm.tokenizer import encode_corpus, train_tokenizer

    place = Workspace(workspace.root / "data" / "ablations" / name)
    learn = place.root.parent / "learn.txt"
    for path, text in ((learn, texts["learn"]), (place.train_text, texts["train"]), (place.val_text, texts["validation"])):
        write_text(path, text)
    write_json(place.corpus_manifest, workspace.manifest(workspace.corpus_manifest))
    train_tokenizer(dataclasses.replace(settings, train_file=str(learn)), place)
    return str(place.root), encode_corpus(place)


# -- the grid --------------------------------------------------------------------------------------------------------


def read_grid(path: Path) -> dict:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TatarLLMError(f"the grid {path} cannot be read: {error}") from error


def resolve(grid: dict, workspace: Workspace) -> list[Variant]:
    """Every variant of every question; one that cannot be is there with its error."""
    texts = cut_texts(grid, workspace)
    found, ready = [], {}
    for question, table in grid["questions"].items():
        for name, changes in table["variants"].items():
            settings = {**grid["base"], **table.get("base", {}), **changes}
            try:
                variant = one_variant(settings, f"{question}: {name}", table.get("passes", 1), texts, workspace, ready)
            except TatarLLMError as error:
                variant = Variant("", "", fingerprint([settings, texts]), error=str(error))
            found.append(dataclasses.replace(variant, question=question, name=name, timing_only=table.get("timing_only", False)))
    return found


def one_variant(settings: dict, where: str, passes: float, texts: dict, workspace: Workspace, ready: dict) -> Variant:
    """Settings -> tokenizer, token files, network, trainer. Raises TatarLLMError where they do not go together."""
    from tatar_llm.training.planner import timed_settings

    parts: dict[type, dict] = {TokenizerConfig: {}, GPTConfig: {}, TrainConfig: {}}
    for key, value in settings.items():
        kind = next((kind for kind in parts if key in field_names(kind)), TrainConfig)  # which then tells of it by name
        parts[kind][key] = value
    from_values(TrainConfig, dict(parts[TrainConfig]), where)
    tokenizer = from_values(TokenizerConfig, parts[TokenizerConfig], where)
    differing = {key: value for key, value in parts[TokenizerConfig].items() if key not in ("type", "vocab_size")}
    name = "-".join([tokenizer.type, str(tokenizer.vocab_size), *(f"{key}={value}" for key, value in sorted(differing.items()))])
    if name not in ready:
        ready[name] = encoded(tokenizer, name, texts, workspace)
    folder, facts = ready[name]
    model = from_values(GPTConfig, {**parts[GPTConfig], "vocab_size": facts["vocab_size"]}, where)
    tokens = math.ceil(passes * facts["train"]["tokens"])
    timed = as_dict(timed_settings(TrainConfig(), model, tokens))
    fixed = {"patience": 0, "log_interval": 100, "device": "cpu", "precision": "fp32"}
    train = from_values(TrainConfig, timed | fixed | parts[TrainConfig], where)
    made_of = [facts["fingerprint"], as_dict(model), as_dict(dataclasses.replace(train, max_iters=1))]
    variant = Variant(
        "", "", fingerprint(made_of), tokens=folder, model=model, train=train,
        bytes_per_token=facts["train"]["bytes"] / facts["train"]["tokens"],
    )  # fmt: skip
    return dataclasses.replace(variant, steps=math.ceil(tokens / variant.tokens_per_step))


# -- rows ------------------------------------------------------------------------------------------------------------


class Rows:
    """The lines of the output file, the newest of each key."""

    def __init__(self, path: Path) -> None:
        self.path, self.runs, self.timings = path, {}, {}
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if text and not text.endswith("\n"):  # killed while writing: the torn line is done again
            text = text[: text.rfind("\n") + 1]
            write_text(path, text)
        for line in text.splitlines():
            self._keep(json.loads(line))

    def _keep(self, row: dict) -> None:
        if row["kind"] == "timing":
            self.timings[row["question"], row["name"], row["fingerprint"]] = row
        else:
            self.runs[row["fingerprint"], row["steps"], row["seed"]] = row

    def add(self, row: dict) -> None:
        self._keep(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if row.get("error"):
            say(f"{row['question']}, {row['name']}: {row['error']}")

    def timing(self, variant: Variant) -> dict:
        """Its measured step; empty where there is none."""
        row = self.timings.get((variant.question, variant.name, variant.fingerprint), {})
        return {} if row.get("error") else row

    def result(self, job: Job | None) -> float | None:
        return self.runs.get(job.key, {}).get("final") if job else None

    def error(self, variant: Variant) -> str:
        """Why it has no numbers; empty where it may have some."""
        failed = self.runs.get((variant.fingerprint, variant.steps, 0), {})
        return variant.error or failed.get("error", "")


def row_of(kind: str, variant: Variant, **facts: Any) -> dict:
    return {"kind": kind, "question": variant.question, "name": variant.name, "fingerprint": variant.fingerprint, **facts}


# -- timing ----------------------------------------------------------------------------------------------------------


def resident_mib(peak: bool) -> float | None:
    """Memory of this process now, or at its peak; None where the system does not tell.

    Linux: not ru_maxrss, which a process inherits from the one that started it.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        name = "VmHWM:" if peak else "VmRSS:"
        return next((int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith(name)), None)
    if sys.platform != "darwin":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def step_when_asked(pipe: Connection, variant: Variant) -> None:
    """In a process of its own: a trainer, and seconds for each step that is asked for; at the end the memory it took."""
    import torch

    from tatar_llm.device import keep_freed_memory
    from tatar_llm.model import GPT
    from tatar_llm.tokenizer import read_tokens
    from tatar_llm.training.batches import Batches
    from tatar_llm.training.planner import Plan, split_micro_batch
    from tatar_llm.training.runs import Run
    from tatar_llm.training.trainer import Trainer
    from tatar_llm.training.validation import held_out

    torch.set_num_threads(1)
    keep_freed_memory()
    piece, pieces_a_step = split_micro_batch(variant.train, variant.model, "cpu")
    plan = Plan("cpu", "fp32", False, 1, piece, pieces_a_step, 10**6, 10**6, 10**6)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            train, val = (read_tokens(Workspace(variant.tokens).tokens / f"{name}.bin") for name in ("train", "val"))
            batches, part = Batches(train, variant.model.block_size, 0), held_out(val, variant.model, 2, 1000)
            trainer = Trainer(Run(Path(folder)), GPT(variant.model), variant.train, plan, batches, part, 4.0, {})
            trainer.model.train()
            before = resident_mib(peak=False)
            for _ in range(WARM):
                trainer.train_step()
        except Exception as error:  # a row of the table, whatever it is
            pipe.send({"error": f"{type(error).__name__}: {error}"})
            return
        pipe.send({})
        while pipe.recv() == "step":
            began = time.perf_counter()
            trainer.train_step()
            pipe.send(time.perf_counter() - began)
        peak = resident_mib(peak=True)
        pipe.send(None if peak is None or before is None else round(peak - before, 1))


def time_question(variants: list[Variant], rows: Rows, rounds: int) -> None:
    """Seconds a step and memory of each network of a question, by turns.

    What counts is the fastest step: equal networks differ by 1 % in it, by 10 % in the median.
    """
    context = multiprocessing.get_context("spawn")
    started, workers = [], []
    for variant in variants:
        mine, its = context.Pipe()
        process = context.Process(target=step_when_asked, args=(its, variant), daemon=True)
        process.start()
        its.close()
        started.append((variant, mine, process, []))
    for worker in started:  # none is timed before all stand still
        if failed := worker[1].recv():
            rows.add(row_of("timing", worker[0], **failed))
        else:
            workers.append(worker)
    for _ in range(rounds):
        for _, pipe, _, seconds in workers:
            pipe.send("step")
            seconds.append(pipe.recv())
    for variant, pipe, process, seconds in workers:
        pipe.send("stop")
        rows.add(row_of("timing", variant, median=statistics.median(seconds), fastest=min(seconds), rounds=rounds, memory_mib=pipe.recv()))
        process.join()


def by_question(variants: list[Variant]) -> list[list[Variant]]:
    return [list(group) for _, group in itertools.groupby(variants, key=lambda variant: variant.question)]


def measure(variants: list[Variant], rows: Rows, rounds: int) -> None:
    """Time each question of which a network has no row yet."""
    for group in by_question(variants):
        sound = [variant for variant in group if not variant.error]
        if any((variant.question, variant.name, variant.fingerprint) not in rows.timings for variant in sound):
            say(f"timing {len(sound)} networks: {group[0].question}")
            time_question(sound, rows, rounds)


# -- trainings -------------------------------------------------------------------------------------------------------


def job_of(variant: Variant, what: str, seed: int, baseline: Variant, rows: Rows) -> Job | None:
    """The training that answers for a variant; None at equal time where the speed has not been measured."""
    if what == TEXT:
        return Job(variant, TEXT, variant.steps, seed)
    its, base = rows.timing(variant), rows.timing(baseline)
    if not its or not base:
        return None
    steps = max(1, round(baseline.steps * base["fastest"] / its["fastest"]))
    same = abs(steps / variant.steps - 1) < SAME
    return Job(variant, TEXT, variant.steps, seed) if same else Job(variant, TIME, steps, seed)


def wanted(variants: list[Variant], rows: Rows, seeds: int) -> Iterator[Job]:
    """All trainings: every variant with seed 0; with the other seeds the baseline and, once seed 0 is there, the best two."""
    for group in by_question(variants):
        baseline, sound = group[0], [variant for variant in group if not rows.error(variant) and not variant.timing_only]
        for what in (TEXT, TIME):
            jobs = {variant.name: job_of(variant, what, 0, baseline, rows) for variant in sound}
            yield from (job for job in jobs.values() if job)
            done = [variant for variant in sound if rows.result(jobs[variant.name]) is not None]
            best = sorted(done, key=lambda variant: rows.result(jobs[variant.name]))[:2]
            screened = all(job.key in rows.runs for job in jobs.values() if job)
            for variant in [baseline, *best] if screened and done else []:
                others = (job_of(variant, what, seed, baseline, rows) for seed in range(1, seeds))
                yield from (job for job in others if job and variant in sound)


def train_one(job: Job) -> dict:
    """The row of one training; one that fails is a row with its error."""
    from tatar_llm.tokenizer import read_tokens
    from tatar_llm.training.bare import bare_run
    from tatar_llm.training.planner import split_micro_batch
    from tatar_llm.training.stop import Interrupted

    variant = job.variant
    facts = {"what": job.what, "steps": job.steps, "seed": job.seed, "tokens": job.steps * variant.tokens_per_step}
    try:
        train, val = (read_tokens(Workspace(variant.tokens).tokens / f"{name}.bin") for name in ("train", "val"))
        piece, accumulation = split_micro_batch(variant.train, variant.model, "cpu")
        done = bare_run(
            train, val, variant.model, variant.train, steps=job.steps, micro_batch=piece, accumulation=accumulation, bos=2,
            validation_tokens=0, seed=job.seed, validations=1, threads=1,
        )  # fmt: skip
    except Interrupted as error:  # in a pool's process, whose results cannot carry it
        raise KeyboardInterrupt from error
    except Exception as error:  # a row of the table, whatever it is
        return row_of("run", variant, **facts, error=f"{type(error).__name__}: {error}")
    sizes = {"parameters": variant.model.parameters(), "active": variant.model.active_parameters()}
    return row_of("run", variant, **facts, **sizes, final=done.final, training=round(done.training, 4), seconds=round(done.seconds, 1))


def missing(variants: list[Variant], rows: Rows, seeds: int) -> list[Job]:
    """Trainings that are not there yet, each once, the longest first so that no process is left with one at the end."""
    jobs: dict[tuple, Job] = {}
    for job in wanted(variants, rows, seeds):
        if job.key not in rows.runs:
            jobs.setdefault(job.key, job)  # a row bears the name of the first question that asks for it
    return sorted(jobs.values(), key=lambda job: -cost(job, rows))


def cost(job: Job, rows: Rows) -> float:
    """Expected seconds; 0 where the network has not been timed."""
    return job.steps * rows.timing(job.variant).get("fastest", 0.0)


def tell_estimate(jobs: list[Job], variants: list[Variant], rows: Rows, seeds: int, processes: int) -> None:
    """How long it takes at the speed measured with one training at a time; of the seeds to come, the most they can be."""
    later: dict[tuple, Job] = {}
    for group in by_question(variants) if any(job.seed == 0 for job in jobs) else []:
        first = [job for job in wanted(group, rows, 1) if not rows.error(job.variant)]
        for what in (TEXT, TIME):
            longest = sorted((job for job in first if job.what == what), key=lambda job: -cost(job, rows))
            later |= {job.key: job for job in [*first[:1], *longest[:2]]}
    now, then = sum(cost(job, rows) for job in jobs), (seeds - 1) * sum(cost(job, rows) for job in later.values())
    say(f"{len(jobs)} trainings, {now / processes / 60:.0f} minutes in {processes} processes; "
        f"then other seeds, at most {then / processes / 60:.0f} minutes")  # fmt: skip


def train_all(variants: list[Variant], rows: Rows, seeds: int, processes: int) -> None:
    """All trainings that are missing, until nothing new is wanted."""
    for variant in variants:
        key = variant.fingerprint, 0, 0
        if variant.error and key not in rows.runs:
            rows.add(row_of("run", variant, what=TEXT, steps=0, seed=0, error=variant.error))
    while jobs := missing(variants, rows, seeds):
        tell_estimate(jobs, variants, rows, seeds, processes)
        if processes == 1:
            for job in jobs:
                rows.add(train_one(job))
            continue
        with multiprocessing.get_context("spawn").Pool(processes, maxtasksperchild=1) as pool:
            for row in pool.imap_unordered(train_one, jobs):
                rows.add(row)


# -- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """Bits per byte of one variant, by seed."""

    bits: dict[int, float]
    same: bool = False
    """At equal time: the training at equal text counts."""

    def __str__(self) -> str:
        if not self.bits:
            return ""
        values = list(self.bits.values())
        spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
        return f"{'= ' if self.same else ''}{statistics.mean(values):.3f}{spread} ({len(values)})"

    def against(self, other: Outcome, spread: float | None) -> str:
        """better, worse or tie, over the seeds that both have."""
        common = self.bits.keys() & other.bits.keys()
        if spread is None or not common:
            return ""
        gain = statistics.mean(other.bits[seed] - self.bits[seed] for seed in common)
        return "tie" if abs(gain) < 2 * spread else "better" if gain > 0 else "worse"


def outcome(variant: Variant, what: str, baseline: Variant, rows: Rows) -> Outcome:
    seeds = sorted({seed for _, _, seed in rows.runs})
    jobs = {seed: job_of(variant, what, seed, baseline, rows) for seed in seeds}
    bits = {seed: rows.result(job) for seed, job in jobs.items() if rows.result(job) is not None}
    return Outcome(bits, what == TIME and any(job is not None and job.what == TEXT for job in jobs.values()))


def ratio(value: float | None, base: float | None) -> str:
    return f"{value / base:.2f}" if value and base else ""


def table(group: list[Variant], rows: Rows) -> str:
    """A question's variants, best first."""
    baseline, lines = group[0], []
    its_text = outcome(baseline, TEXT, baseline, rows)
    spread = statistics.stdev(its_text.bits.values()) if len(its_text.bits) > 1 else None
    base_seconds, base_memory = (rows.timing(baseline).get(key) for key in ("fastest", "memory_mib"))
    for variant in group:
        name = f"{variant.name} (baseline)" if variant is baseline else variant.name
        if why := rows.error(variant):
            lines.append((math.inf, f"| {name} | failed: {why.replace('|', '/')} | | | | | | |"))
            continue
        text, at_time = (outcome(variant, what, baseline, rows) for what in (TEXT, TIME))
        seconds, memory = (rows.timing(variant).get(key) for key in ("fastest", "memory_mib"))
        speed, base_speed = (
            one.tokens_per_step / second if second else None for one, second in ((variant, seconds), (baseline, base_seconds))
        )
        text_speed, base_text_speed = (
            one * which.bytes_per_token if one else None for one, which in ((speed, variant), (base_speed, baseline))
        )
        verdicts = (text.against(its_text, spread), at_time.against(its_text, spread)) if variant is not baseline else ("", "")
        whole, active = variant.model.parameters(), variant.model.active_parameters()
        cells = (
            name, f"{whole / 1e6:.2f} M" + (f" ({active / 1e6:.2f} M active)" if active != whole else ""), text, at_time,
            " / ".join(filter(None, verdicts)), ratio(speed, base_speed), ratio(text_speed, base_text_speed),
            f"{ratio(memory, base_memory)} ({memory:.0f} MiB)" if memory is not None else "",
        )  # fmt: skip
        lines.append((statistics.mean(text.bits.values()) if text.bits else 99.0, f"| {' | '.join(map(str, cells))} |"))
    head = [f"### {baseline.question}", ""]
    head += ["| idea | parameters | bits per byte, equal text | equal time | text / time against the baseline | tokens/s | text/s | memory |"]
    head += ["|---|---:|---:|---:|---|---:|---:|---:|"]
    note = [] if spread is None else ["", f"Spread of the baseline: {spread:.4f}; a difference below {2 * spread:.4f} is a tie."]
    return "\n".join([*head, *(line for _, line in sorted(lines, key=lambda pair: pair[0])), *note])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", action="append", default=[], metavar="QUESTION", help="this question alone; may be given several times")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3, help="of the best two of each question")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="timed steps of each network")
    parser.add_argument("--timing", action="store_true", help="only measure seconds a step and memory")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    parser.add_argument("--retry", action="store_true", help="try again what failed")
    args = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the pool takes its processes with it
    try:
        grid = read_grid(args.grid)
        if unknown := [name for name in args.only if name not in grid["questions"]]:
            raise TatarLLMError(f"the grid has no question {unknown[0]!r}: there are {', '.join(grid['questions'])}")
        grid["questions"] = {name: table for name, table in grid["questions"].items() if not args.only or name in args.only}
        variants, rows = resolve(grid, Workspace(args.workspace)), Rows(args.out)
    except TatarLLMError as error:
        say(f"error: {error}")
        return 1
    if args.retry:
        for known in (rows.runs, rows.timings):
            for key in [key for key, row in known.items() if row.get("error")]:
                del known[key]
    if args.timing:
        measure(variants, rows, args.rounds)
        tell_estimate(missing(variants, rows, args.seeds), variants, rows, args.seeds, args.processes)
    elif not args.table:
        try:
            train_all(variants, rows, args.seeds, args.processes)
        except KeyboardInterrupt:
            say("stopped: the same command goes on with what is missing")
            return 130
    print("\n\n".join(table(group, rows) for group in by_question(variants)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
