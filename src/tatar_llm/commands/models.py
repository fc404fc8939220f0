"""Verbs about a model as a whole, and about the machine: evaluate, export, publish, doctor."""

from __future__ import annotations

import argparse

from tatar_llm.commands.shared import emit, writable_workspace
from tatar_llm.console import human_bytes, human_time, say
from tatar_llm.errors import TatarLLMError, UsageError
from tatar_llm.workspace import Workspace


def evaluate(args: argparse.Namespace) -> int:
    """Measure a model, write the report, show its head."""
    from tatar_llm.evaluation import Inputs
    from tatar_llm.evaluation import evaluate as measure
    from tatar_llm.evaluation.report import compare, markdown
    from tatar_llm.model import load_model_file
    from tatar_llm.training import find_model

    workspace = writable_workspace(args)
    inputs = Inputs(args.file, args.protocol, args.pairs, args.facts, args.choices, args.topics)
    places = [find_model(workspace, name) for name in [*args.models, *([args.model] if args.model else [])] or [""]]
    talk = len(places) > 1 and any(load_model_file(place.model).get("chat") for place in places)
    reports = [measure(workspace, place, suite=args.suite, inputs=inputs, samples=args.samples, talk=talk) for place in places]
    several = len(reports) > 1
    text = compare(workspace, reports) if several else markdown(reports[0])
    if not args.json:
        print(text)
    name = "comparison.md" if several else f"{args.protocol or 'report'}.html"
    say(f"report: {workspace.reports / name}")
    emit(args, {"models": reports} if several else reports[0])
    return 0


def export(args: argparse.Namespace) -> int:
    """Write the model for other programs."""
    from tatar_llm.export import EXPORTS
    from tatar_llm.training import find_model

    kind = EXPORTS[args.format]
    dtype = args.dtype or kind.dtypes[0]
    if dtype not in kind.dtypes:
        raise UsageError(f"--dtype {dtype}: export {args.format} knows {', '.join(kind.dtypes)}")
    if args.runtime and args.format != "web":
        raise UsageError(f"--runtime belongs to export web: export {args.format} needs none")
    workspace = writable_workspace(args)
    place = find_model(workspace, args.model)
    more = {"runtime": args.runtime} if args.runtime else {}
    folder = kind.write(workspace, place, args.out, force=args.force, dtype=dtype, **more)
    say(f"exported {place.name} -> {folder} ({kind.ending})")
    emit(args, {"model": place.name, "folder": str(folder)})
    return 0


def publish(args: argparse.Namespace) -> int:
    """Upload the model to the Hugging Face Hub."""
    from tatar_llm.export.hub import Publication
    from tatar_llm.export.hub import publish as publish_model
    from tatar_llm.training import find_model
    from tatar_llm.training.runs import SHIPPED

    workspace = Workspace(args.workspace)
    place = find_model(workspace, args.model)
    if place.name == SHIPPED and args.model != SHIPPED:
        raise TatarLLMError(
            "nothing has been trained here, and the shipped model needs no publishing: whoever installs tatar-llm has it. "
            "Train one with `tatar-llm run`; to publish a copy all the same, take --model shipped"
        )
    done = publish_model(
        workspace, place,
        Publication(args.repo, args.public, args.dtype, args.message, args.licence, args.force, args.dry_run),
    )  # fmt: skip
    if args.dry_run:
        say(f"dry run: nothing was sent{'' if args.json else '; the card, README.md:'}")
    else:
        say(f"published {place.name}, commit {done['commit'][:8]}")
    if not args.json:
        print(done["card"] if args.dry_run else done["url"])
    emit(args, done)
    return 0


def doctor(args: argparse.Namespace) -> int:
    """What this machine can do."""
    from tatar_llm.device import choose_execution
    from tatar_llm.doctor import examine, write_bug_report
    from tatar_llm.training.planner import compile_pays

    facts = examine()
    if not args.json:
        print("tatar-llm {tatar_llm}, Python {python}, torch {torch}, {platform}".format(**facts))
        for reason in facts["reasons"]:
            print(reason)
        print(f"compiling an hour-long run: {compile_pays(choose_execution(), 3600)[1]}")
        print(f"measured {facts['gflops']} GFLOP/s in training steps, {facts['share_of_peak']:.0%} of what matrix products "
              f"alone reach\n")  # fmt: skip
        print(f"{'recipe':8} {'size':>9} {'memory':>9} {'tokens/s':>10} {'10 M tokens':>13}")
        for row in facts["recipes"]:
            hours, memory = human_time(row["hours_for_10M_tokens"] * 3600), human_bytes(row["memory_bytes"])
            print(f"{row['recipe']:8} {row['parameters'] / 1e6:7.1f} M {memory:>9} {row['tokens_per_second']:10,} {hours:>13}")
        print("\ntatar-llm train --minutes M chooses the size that fits M minutes here.")
    if args.report:
        path = writable_workspace(args).root / "doctor-report.md"
        write_bug_report(path, facts)
        say(f"report written to {path}: put it into an issue when something is wrong on this machine")
    emit(args, facts)
    return 0
