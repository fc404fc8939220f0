"""The end of a training: measure the best weights on the held-out text, put files where people look for them."""

from __future__ import annotations

import shutil
import time

from tatar_llm.console import say
from tatar_llm.model import GPT, load_model, save_model
from tatar_llm.training.curve import draw_curve
from tatar_llm.training.inputs import Inputs
from tatar_llm.training.planner import FIT_FROM, Plan, autocast_dtype, expected_bits, useful_tokens
from tatar_llm.training.runs import Run
from tatar_llm.training.trainer import Trainer
from tatar_llm.training.validation import held_out, score
from tatar_llm.workspace import Workspace, whole_file

FINAL_SHARE = 0.06  # of a timed run, at most, for measuring all held-out text at the end


def scoring_seconds(model: GPT, inputs: Inputs, plan: Plan) -> float:
    """How long scoring all held-out text will take, from a few windows."""
    bos = inputs.tokenizer_config["bos_token_id"]
    piece = held_out(inputs.val, model.config, bos, 2048)
    score(model, piece, 8, autocast_dtype(plan.precision))
    begin = time.perf_counter()
    score(model, piece, 8, autocast_dtype(plan.precision))
    return (time.perf_counter() - begin) * inputs.manifest["val"]["tokens"] / max(1, piece.tokens)


def hand_over(run: Run, workspace: Workspace, trainer: Trainer, inputs: Inputs, bos: int, reason: str) -> None:
    """Measure the best model on the held-out text, draw the curve, put copies where the brief expects them."""
    model, plan = trainer.model, trainer.plan
    trainer.average.settle()
    wanted = inputs.manifest["val"]["tokens"]
    full_seconds = scoring_seconds(model, inputs, plan)
    if plan.seconds and full_seconds > max(5.0, FINAL_SHARE * plan.seconds):
        wanted = int(wanted * FINAL_SHARE * plan.seconds / full_seconds)
    piece = held_out(inputs.val, model.config, bos, wanted if wanted < inputs.manifest["val"]["tokens"] else 0)
    autocast = autocast_dtype(plan.precision)
    final = score(model, piece, 8, autocast)
    trainer.save_final(final)
    best = final
    if trainer.best_step != trainer.step and run.best_model.is_file():
        best_model, _ = load_model(run.best_model, device=plan.device)
        best = score(best_model, piece, 8, autocast)
        model = best_model
    if final.bits_per_byte <= best.bits_per_byte:
        best, model = final, trainer.model
        trainer.best_step = trainer.step
    val = {"bits_per_byte": best.bits_per_byte, "nats_per_token": best.nats_per_token, "tokens": best.tokens}
    save_model(run.best_model, model, step=trainer.best_step, val=val, **trainer.facts)
    trainer.best = best.bits_per_byte
    draw_curve(run.curve, run.read_metrics(), inputs.manifest["baselines"], f"{run.label}: {inputs.corpus['corpus']}")
    for source, target in ((run.best_model, workspace.best_model), (run.final_model, workspace.final_model)):
        with whole_file(target) as temporary:
            shutil.copyfile(source, temporary)
    trainer.clock.mark()
    trainer.write_status(
        "finished", reason=reason, final_bits_per_byte=final.bits_per_byte, nats_per_token=best.nats_per_token,
        perplexity=best.perplexity, held_out_tokens=best.tokens, held_out_share=piece.share,
        seconds_to_first_step=round(trainer.seconds_to_first_step, 1),
        tokens=trainer.step * trainer.tokens_per_step, parameters=trainer.model.config.parameters(),
        revisions=len(plan.revisions), skipped=trainer.watchdog.counts()[0], micro_batch=plan.micro_batch,
        scoring_tokens_per_second=round(inputs.manifest["val"]["tokens"] / max(full_seconds, 1e-3)),
    )  # fmt: skip
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    baselines = inputs.manifest["baselines"]
    part = "" if piece.share == 1 else f" (on {piece.share:.0%} of the held-out text; `tatar-llm evaluate --suite full` takes all)"
    say(
        f"run {run.label}: {best.bits_per_byte:.3f} bits per byte on held-out text{part}, "
        f"{best.nats_per_token:.3f} nats per token; bigram {baselines['bigram']:.3f}, unigram {baselines['unigram']:.3f}"
    )
    tokens, unique = trainer.step * trainer.tokens_per_step, inputs.manifest["train"]["tokens"]
    if run.settings()["recipe"] == "seed" and useful_tokens(tokens, unique) >= FIT_FROM:
        expected = expected_bits(model.config.parameters(), tokens, unique, baselines["bigram"])
        say(f"from so many tokens, `--recipe base` is expected to reach about {expected:.2f} bits per byte with the same network")
