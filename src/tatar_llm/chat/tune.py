"""Teaching a trained network to answer: the one trainer, on conversations."""

from __future__ import annotations

import dataclasses
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Tokenizer

from tatar_llm.chat.batches import ChatBatches, Encoded, held_out_answers
from tatar_llm.chat.generate import conversations, reserved_questions
from tatar_llm.chat.load import Loaded, load_conversations
from tatar_llm.chat.template import Turn, encode_turns, need_chat_tokens
from tatar_llm.config import ChatConfig, GPTConfig, TrainConfig, as_dict
from tatar_llm.console import human_time, say
from tatar_llm.corpus.readers import blocks
from tatar_llm.corpus.sources import Sample
from tatar_llm.corpus.split import SMALL_SHARE, position
from tatar_llm.device import choose_execution, keep_freed_memory
from tatar_llm.errors import TatarLLMError
from tatar_llm.grammar.generate import documents as generated_documents
from tatar_llm.model import GPT, load_model, load_model_file, save_model
from tatar_llm.tokenizer import TokenFile, load_tokenizer, read_tokens
from tatar_llm.tokenizer.encode import encode_texts
from tatar_llm.training.batches import Batches
from tatar_llm.training.checkpoint import need_checkpoint
from tatar_llm.training.curve import draw_curve
from tatar_llm.training.planner import Plan, measure_flops, split_micro_batch
from tatar_llm.training.runs import CHAT, ModelPlace, Run, new_run, newest_unfinished
from tatar_llm.training.selfcheck import self_check
from tatar_llm.training.trainer import Trainer
from tatar_llm.training.validation import HeldOut, Score, held_out, score
from tatar_llm.workspace import Workspace, fingerprint, sha256_file, whole_file

MINUTES = 15.0
"""Time for the training where the user gives none."""
TRAIN = TrainConfig(
    batch_size=16, gradient_accumulation_steps=1, learning_rate=2e-3, schedule="linear", min_lr=0.05, warmup_iters=20,
    weight_decay=0.01, patience=6, name=CHAT,
)  # fmt: skip
"""Settings of the trainer that suit a network which has been trained already; docs/experiments.md tells how they were found."""
OWN_KEPT_BACK = 20
"""One in so many of the user's conversations is kept back, where there are at least twice as many."""
PLAIN_BYTES = 1_000_000
"""Of the grammar's text, where the workspace has no token files that suit the model."""
PLAIN_SCORED = 32_768  # tokens of held-out plain text on which forgetting is measured
CHECKPOINT_SECONDS = 120
FAR_FROM_LEARNT = 0.5
"""Bits per byte of held-out answers of the package's own conversations; models that know three quarters of them are below 0.2."""

OnValidation = Callable[[GPT, int, Score], None]


@dataclass(frozen=True)
class Plain:
    """Ordinary text, against forgetting."""

    train: TokenFile | None
    val: TokenFile | None
    name: str


@dataclass(frozen=True)
class Talk:
    """What is learnt from and what is kept back."""

    batches: ChatBatches
    held_out: HeldOut


def finetune(
    workspace: Workspace, place: ModelPlace, config: ChatConfig, settings: TrainConfig = TRAIN, *, minutes: float = MINUTES,
    started: float | None = None, on_validation: OnValidation | None = None,
) -> Run:
    """Teach the model at `place` to answer, as a new run; its best model goes to models/chat_model.pt too.

    Args:
        config: conversations and the share of plain text.
        settings: of the trainer; `max_iters` counts only with `minutes` 0.
        minutes: time for the training; it may end before, after `config.passes` or when held-out answers get no better.

    Raises:
        TatarLLMError: a tokenizer without the marks of a conversation, data that is none, nothing to learn from.
        Interrupted: stopped by the user, with a checkpoint.
    """
    started = time.perf_counter() if started is None else started
    facts = load_model_file(place.model)
    if facts.get("chat"):
        say(f"{place.name} is a chat model already; it goes on learning from where it stands")
    record: dict[str, Any] = {
        "kind": CHAT, "recipe": CHAT, "base": place.name, "chat": as_dict(config), "train": as_dict(settings), "minutes": minutes,
        "corpus": facts.get("corpus") or "unknown text", "language": facts.get("language") or "tat",
        "fallback": facts.get("fallback") or "", "generated_bytes": facts.get("generated_bytes") or 0, "baselines": {},
        "tokenizer_sha256": sha256_file(place.tokenizer / "tokenizer.json"),
    }  # fmt: skip
    tokenizer, tok_config = load_tokenizer(place.tokenizer)
    place.check(facts)
    need_chat_tokens(tokenizer)
    model, network = load_model(place.model, settings.device)
    plain = plain_of(workspace, record, tokenizer, tok_config)
    talk = prepare_talk(config, record["language"], tokenizer, tok_config, network.block_size, settings.seed, plain)
    plan = _plan(settings, config, network, talk, minutes)
    piece = _scored(plain, network, tok_config)
    record |= {"model": as_dict(network), "parameters": network.parameters(), "plan": dataclasses.asdict(plan), "conversations": _digest(talk),
               "plain_before": score(model, piece, 8).bits_per_byte if piece else None, "torch": torch.__version__}  # fmt: skip
    run = new_run(workspace, settings.name, record, place.tokenizer)
    return _fit(run, workspace, model, settings, plan, talk, piece, started, on_validation, None)


def resume(workspace: Workspace, *, started: float | None = None, on_validation: OnValidation | None = None) -> Run:
    """Go on with the newest unfinished run of its kind from its last checkpoint."""
    started = time.perf_counter() if started is None else started
    run = newest_unfinished(workspace, chat=True)
    record = run.settings()
    state = need_checkpoint(run.checkpoints)
    settings, network = TrainConfig(**record["train"]), GPTConfig(**{**record["model"], "dropout": 0.0})
    config = ChatConfig(**{**record["chat"], "data": tuple(record["chat"]["data"])})
    tokenizer, tok_config = load_tokenizer(run.tokenizer)
    plain = plain_of(workspace, record, tokenizer, tok_config)
    talk = prepare_talk(config, record["language"], tokenizer, tok_config, network.block_size, settings.seed, plain)
    if _digest(talk) != record["conversations"]:
        raise TatarLLMError(f"the conversations have changed since run {run.label} began: start a new run with `tatar-llm finetune`")
    plan = Plan.from_dict(state["plan"])
    say(f"resuming run {run.label} at step {state['step']:,} of {plan.total_steps:,}")
    return _fit(run, workspace, GPT(network), settings, plan, talk, _scored(plain, network, tok_config), started, on_validation, state)


# -- what is learnt from ---------------------------------------------------------------------------------------------


def prepare_talk(
    config: ChatConfig, language: str, tokenizer: Tokenizer, tok_config: dict[str, Any], block_size: int, seed: int, plain: Plain
) -> Talk:
    """All conversations encoded, packed, and some of them kept back."""
    own = [_kept_apart(load_conversations(wanted)) for wanted in config.data]
    builtin = config.builtin and language == "tat"
    if config.builtin and not builtin and not own:
        raise TatarLLMError(f"the conversations that come with the package are Tatar, this model's language is {language}: give --data of your own")
    if not builtin and not own:
        raise TatarLLMError("nothing to learn from: give --data, or leave --builtin on")

    def encoded(turns: list[Turn]) -> Encoded | None:
        found = encode_turns(tokenizer, tok_config, turns, block_size)
        return Encoded(*found) if found else None

    yours = [one for part, _ in own for turns in part if (one := encoded(turns))]
    left_out = sum(len(part) for part, _ in own) - len(yours)

    def of_epoch(epoch: int) -> list[Encoded]:
        rules = [one for turns in conversations(seed, epoch) if (one := encoded(turns))] if builtin else []
        return [*yours, *rules]

    kept = [turns for _, part in own for turns in part]
    if builtin:
        kept += reserved_questions()
    pairs = [(turns, one) for turns in kept if (one := encoded(turns))]
    apart = f"{len(pairs)} kept back"
    if not pairs:  # too few to keep any back
        pairs = [(turns, one) for part, _ in own for turns in part[:50] if (one := encoded(turns))]
        apart = f"{len(pairs)} of them tell when to stop too, for want of more"
    if not pairs:
        raise TatarLLMError(f"no conversation fits the model's context of {block_size} tokens")
    answers = sum(len(turn.text.encode()) for turns, _ in pairs for turn in turns if turn.role == "assistant")
    pad = tok_config["eos_token_id"]
    text = Batches(plain.train, block_size, seed) if plain.train is not None and config.plain_share else None
    batches = ChatBatches(of_epoch, block_size, seed, pad, text, config.plain_share)
    say(f"{len(batches.encoded):,} conversations a pass in {batches.windows_an_epoch():,} windows, {apart}; "
        f"plain text: {plain.name if text else 'none'}")  # fmt: skip
    if left_out:
        say(f"{left_out} conversations are left out: their last question and answer do not fit the context of {block_size} tokens")
    return Talk(batches, held_out_answers([one for _, one in pairs], answers, block_size, pad))


def _kept_apart(loaded: Loaded) -> tuple[list[list[Turn]], list[list[Turn]]]:
    """What is trained on, and what is kept back."""
    found = loaded.conversations
    if len(found) < 2 * OWN_KEPT_BACK:
        return found, []
    return [one for place, one in enumerate(found) if place % OWN_KEPT_BACK], found[::OWN_KEPT_BACK]


def plain_of(workspace: Workspace, record: dict[str, Any], tokenizer: Tokenizer, tok_config: dict[str, Any]) -> Plain:
    """The workspace's token files where they are in the model's tokens; otherwise the text that ships, where it is the model's language."""
    manifest = workspace.manifest(workspace.tokens_manifest) or {}
    if manifest.get("tokenizer_sha256") == record["tokenizer_sha256"]:
        return Plain(read_tokens(workspace.tokens / "train.bin"), read_tokens(workspace.tokens / "val.bin"), record["corpus"])
    if record["language"] != "tat":
        return Plain(None, None, "")
    written = ["\n".join(lines) for file in Sample().files() for lines in blocks(file.read_text(encoding="utf-8").splitlines())]
    kept = [text for text in written if position(text) < SMALL_SHARE]  # as `prepare` does, so that no model has been trained on it
    texts = [text for text in written if position(text) >= SMALL_SHARE] + ["\n".join(lines) for lines in generated_documents(PLAIN_BYTES)]
    return Plain(
        encode_texts(tokenizer, tok_config, texts), encode_texts(tokenizer, tok_config, kept),
        "the sample (the workspace has no token files in this model's tokens)",
    )  # fmt: skip


def _scored(plain: Plain, network: GPTConfig, tok_config: dict[str, Any]) -> HeldOut | None:
    """The part of the held-out plain text on which forgetting is measured."""
    return held_out(plain.val, network, tok_config["bos_token_id"], PLAIN_SCORED) if plain.val is not None else None


def _digest(talk: Talk) -> str:
    """Of the conversations of the first pass."""
    return fingerprint([one.ids for one in talk.batches.conversations(0)])


# -- the run ---------------------------------------------------------------------------------------------------------


def _plan(settings: TrainConfig, config: ChatConfig, network: GPTConfig, talk: Talk, minutes: float) -> Plan:
    execution = choose_execution(settings.device, settings.precision, settings.compile)
    for reason in execution.reasons[:2]:
        say(reason)
    if execution.device == "cpu":
        keep_freed_memory()
    micro_batch, accumulation = split_micro_batch(settings, network, execution.device)
    a_pass = math.ceil(talk.batches.windows_an_epoch() / (1 - talk.batches.plain_share) / (micro_batch * accumulation))
    most = config.passes * a_pass if minutes else settings.max_iters
    seconds_a_step = micro_batch * accumulation * network.block_size * network.flops_per_token() / measure_flops(execution, network.vocab_size, network.block_size)
    steps = min(most, max(10, round(minutes * 60 / seconds_a_step))) if minutes else most
    say(f"plan: {steps:,} steps of {micro_batch * accumulation} windows, {steps / a_pass:.1f} passes, about {human_time(steps * seconds_a_step)}")
    return Plan(
        device=execution.device, precision=execution.precision, compile=settings.compile == "on", threads=execution.threads,
        micro_batch=micro_batch, accumulation=accumulation, total_steps=steps, eval_interval=settings.eval_interval or max(10, a_pass),
        checkpoint_interval=settings.checkpoint_interval or max(1, round(CHECKPOINT_SECONDS / seconds_a_step)),
        seconds=minutes * 60, most_steps=most if minutes else 0,
    )  # fmt: skip


def _fit(
    run: Run, workspace: Workspace, model: GPT, settings: TrainConfig, plan: Plan, talk: Talk, plain: HeldOut | None, started: float,
    on_validation: OnValidation | None, state: dict[str, Any] | None,
) -> Run:  # fmt: skip
    record = run.settings()
    torch.manual_seed(settings.seed)
    plan = self_check(model.to(torch.device(plan.device)), talk.batches, plan)
    facts = {name: record[name] for name in ("language", "corpus", "generated_bytes", "fallback", "tokenizer_sha256", "base")} | {"chat": True}
    trainer = Trainer(
        run, model, settings, plan, talk.batches, talk.held_out, talk.held_out.bytes / max(1, talk.held_out.tokens), facts, on_validation,
        started=started,
    )  # fmt: skip
    if state is not None:
        trainer.restore(state)
    with trainer.telling_of_failure():
        reason = trainer.fit()
    if reason == "patience":
        say(f"stopped early: held-out answers got no better; the best model is that of step {trainer.best_step:,}")
    _hand_over(run, workspace, trainer, plain, record["plain_before"], reason)
    return run


def _hand_over(run: Run, workspace: Workspace, trainer: Trainer, plain: HeldOut | None, before: float | None, reason: str) -> None:
    """Measure forgetting, put the model where the other commands look for it."""
    trainer.average.settle()
    trainer.save_final(score(trainer.model, trainer.held_out, 8, trainer.autocast))
    model, _ = load_model(run.best_model, device=trainer.plan.device)
    after = score(model, plain, 8).bits_per_byte if plain is not None else None
    save_model(
        run.best_model, model, step=trainer.best_step, val={"bits_per_byte": after}, answers={"bits_per_byte": trainer.best}, **trainer.facts
    )
    draw_curve(run.curve, run.read_metrics(), {}, f"{run.label}: held-out answers")
    with whole_file(workspace.chat_model) as temporary:
        shutil.copyfile(run.best_model, temporary)
    trainer.clock.mark()
    trainer.write_status(
        "finished", reason=reason, parameters=trainer.model.config.parameters(), tokens=trainer.step * trainer.tokens_per_step,
        plain_before=before, plain_after=after,
    )
    shutil.rmtree(run.checkpoints, ignore_errors=True)
    forgotten = f"; plain text {before:.3f} before, {after:.3f} after ({(after / before - 1) * 100:+.1f} %)" if before and after else ""
    say(f"run {run.label}: {trainer.best:.3f} bits per byte on held-out answers (step {trainer.best_step:,}){forgotten}")
    if run.settings()["chat"]["builtin"] and trainer.best > FAR_FROM_LEARNT:
        say("note: that is far from learnt, so many answers will be nonsense. Give it more --minutes, or start from a model that was trained for longer")
