"""From minutes to a plan: which size, which batch, how many steps this machine can do in the time given."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from dataclasses import dataclass

import torch

from tatar_llm.config import GPTConfig, TrainConfig
from tatar_llm.device import Execution, find_device, synchronize
from tatar_llm.errors import TatarLLMError
from tatar_llm.model import GPT

SIZES: tuple[tuple[int, int, int], ...] = (  # n_layer, n_embd, n_head
    (2, 128, 2),
    (3, 192, 3),
    (4, 256, 4),
    (4, 384, 6),
    (6, 512, 8),
    (10, 640, 10),
    (12, 768, 12),
)
MOST_PASSES = 60
REPEATS_WORTH = 15.0
TOKENS_A_PARAMETER = 4.0  # useful ones, at least: below that a network learns its text by heart, which the fit cannot know
FIT = {"floor": 0.657, "size": 0.15, "size_power": 0.34, "tokens": 0.482, "tokens_power": 0.32}
"""Bits per byte = floor + size / N^size_power + tokens / D^tokens_power; N and D in millions. docs/experiments.md 2026-11-25."""
FIT_FROM = 500_000  # useful tokens; below, the fit has seen nothing
FIT_BIGRAM = 1.115  # bits per byte of the Kneser-Ney bigram on the text of the fit
LONG_HOURS = 2


@dataclass(frozen=True)
class Plan:
    """What a run will execute; written into every checkpoint and obeyed by a resume."""

    device: str
    precision: str
    compile: bool
    threads: int
    micro_batch: int
    accumulation: int
    total_steps: int
    eval_interval: int
    checkpoint_interval: int
    seconds: float = 0.0
    """Time allowed for training, 0 when steps decide."""
    most_steps: int = 0
    """With `seconds`: no more steps than this however fast it goes (the corpus has no more to give); 0: no limit."""
    world: int = 1
    """Processes that train together; each does micro_batch x accumulation windows a step."""
    revisions: tuple[tuple[int, int], ...] = ()
    """(step, total_steps) each time measured speed corrected the plan."""
    shrunk: tuple[tuple[int, int], ...] = ()
    """(step, micro_batch) each time memory did not suffice."""

    def revised(self, step: int, total_steps: int) -> Plan:
        """The plan with another number of steps from `step` on."""
        return dataclasses.replace(self, total_steps=total_steps, revisions=(*self.revisions, (step, total_steps)))

    @property
    def windows_per_step(self) -> int:
        """Windows of all processes in one optimizer step."""
        return self.micro_batch * self.accumulation * self.world

    def among(self, world: int) -> Plan:
        """The same steps done by another number of processes.

        Raises TatarLLMError where a step's windows cannot be divided among so many.
        """
        if world == self.world:
            return self
        whole = self.windows_per_step
        if whole % world:
            raise TatarLLMError(
                f"a step of {whole} windows cannot be divided among {world} processes: take --nproc "
                + " or ".join(str(n) for n in range(world, 0, -1) if whole % n == 0)
            )
        piece = min(self.micro_batch, whole // world)
        while (whole // world) % piece:
            piece -= 1
        return dataclasses.replace(self, micro_batch=piece, accumulation=whole // world // piece, world=world)

    @staticmethod
    def from_dict(values: dict) -> Plan:
        """Rebuild a plan from a checkpoint."""
        pairs = {name: tuple(tuple(pair) for pair in values.get(name, ())) for name in ("revisions", "shrunk")}
        return Plan(**{**values, **pairs})


def measure_flops(execution: Execution, vocab_size: int, block_size: int, seconds: float = 4.0) -> float:
    """Floating-point operations per second of real training steps on this machine, from a small network."""
    device = find_device(execution.device)
    config = GPTConfig(n_layer=2, n_embd=256, n_head=4, vocab_size=vocab_size, block_size=block_size)
    with torch.random.fork_rng(devices=[]):
        model = GPT(config).to(device)
        optimizer = model.configure_optimizers(0.1, 1e-4, (0.9, 0.95), device.type)
        batch = 8 if device.type == "cpu" else 32
        ids = torch.randint(vocab_size, (batch, block_size)).to(device)
    autocast = autocast_dtype(execution.precision)
    times: list[float] = []
    started = time.perf_counter()
    while time.perf_counter() - started < seconds or len(times) < 3:
        begin = time.perf_counter()
        with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
            _, loss = model(ids, ids, return_logits=False)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        synchronize(device)
        times.append(time.perf_counter() - begin)
    return config.flops_per_token() * ids.numel() / statistics.median(times[1:])


def measure_peak(execution: Execution, seconds: float = 0.3) -> float:
    """Floating-point operations per second of nothing but large matrix products here: the peak that steps are held to."""
    device, size = find_device(execution.device), 1024 if execution.device == "cpu" else 8192
    dtype = autocast_dtype(execution.precision) or torch.float32
    with torch.random.fork_rng(devices=[]):
        matrix = torch.randn(size, size).to(device, dtype)
    best, started = math.inf, time.perf_counter()
    matrix @ matrix
    while math.isinf(best) or time.perf_counter() - started < seconds:
        synchronize(device)
        begin = time.perf_counter()
        matrix @ matrix
        synchronize(device)
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


def autocast_dtype(precision: str) -> torch.dtype | None:
    """The dtype for torch.autocast, or None for fp32."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}[precision]


def useful_tokens(tokens: float, unique: float) -> float:
    """What `tokens` of training on `unique` different ones are worth in tokens seen once.

    Muennighoff et al. 2023 (arXiv 2305.16264, equation 5, R* = 15): repeats count less and less.
    """
    passes = tokens / max(unique, 1)
    return tokens if passes <= 1 else unique * (1 + REPEATS_WORTH * (1 - math.exp(-(passes - 1) / REPEATS_WORTH)))


def most_passes(unique: float, parameters: float) -> float:
    """Passes after which a network of `parameters` only learns a corpus of `unique` tokens by heart.

    8 up to a tenth of a token a parameter: measured with 1.4 M parameters on 125,000 tokens, where 8 passes end as 4 do
    and 16 end 12 % worse (docs/experiments.md 2026-11-25). That it grows with the 0.4th power from there, to MOST_PASSES at
    15 tokens a parameter, is a guess between that point and the literature on repeated data.
    """
    return min(MOST_PASSES, 8 * max(1.0, 10 * unique / parameters) ** 0.4)


def expected_bits(parameters: float, tokens: float, unique: float, bigram: float = FIT_BIGRAM) -> float:
    """Bits per byte to expect on held-out text after `tokens` of training on `unique` different ones.

    The form is that of Hoffmann et al. 2022 (arXiv 2203.15556, section 3.3), with repeats counted as `useful_tokens`;
    the numbers are fitted to measured runs on Tatar books. Another text is as much harder or easier as its bigram model is.
    """
    useful = max(useful_tokens(tokens, unique), 1.0) / 1e6
    bits = FIT["floor"] + FIT["size"] * (parameters / 1e6) ** -FIT["size_power"] + FIT["tokens"] * useful ** -FIT["tokens_power"]
    return bits * bigram / FIT_BIGRAM


def dropout_for(passes: float) -> float:
    """Share of activations to drop: none up to about 6 passes, where it costs more than it gives.

    Measured at 4 passes (0.1 is 1.3 % worse) and on very small text at 10 (0.1 and 0.2 alike); docs/experiments.md.
    """
    return 0.0 if passes < 6 else 0.1 if passes < 20 else 0.2


def choose_size(flops: float, seconds: float, unique_tokens: int, base: GPTConfig) -> tuple[GPTConfig, int]:
    """The network of SIZES that is expected to end best after `seconds` at `flops`, and how many tokens it sees by then.

    A larger one learns more from a token and sees fewer of them. Where the corpus has no more passes to give
    (`most_passes`), the time that is left goes into size, as far as there are TOKENS_A_PARAMETER for it.
    """
    best: tuple[float, GPTConfig, int] | None = None
    for n_layer, n_embd, n_head in SIZES:
        config = dataclasses.replace(
            base, n_layer=n_layer, n_embd=n_embd, n_head=n_head, n_kv_head=0, ffn_hidden=0, expert_hidden=0, dropout=0.0
        )
        most = most_passes(unique_tokens, config.parameters()) * unique_tokens
        tokens = int(min(seconds * flops / config.flops_per_token(), most))
        bits = expected_bits(config.parameters(), tokens, unique_tokens)
        enough = useful_tokens(tokens, unique_tokens) >= TOKENS_A_PARAMETER * config.parameters()
        if best is None or (bits < best[0] and enough):
            best = bits, config, tokens
    assert best is not None
    _, config, tokens = best
    return dataclasses.replace(config, dropout=dropout_for(tokens / unique_tokens)), tokens


def timed_settings(train: TrainConfig, config: GPTConfig, tokens: int) -> TrainConfig:
    """Batch, rate and schedule for a run of `tokens` tokens: small batches and high rates, so that there are steps."""
    per_step = 1024 if tokens < 3e6 else 4096 if tokens < 4e7 else 8192 if tokens < 2e8 else 32768
    windows = max(1, per_step // config.block_size)
    return dataclasses.replace(
        train,
        batch_size=windows,
        gradient_accumulation_steps=1,
        max_iters=max(10, tokens // (windows * config.block_size)),
        optimizer="muon",
        learning_rate=3e-3 * (256 / config.n_embd) ** 0.5,
        min_lr=0.0,
        schedule="linear",
        warmup_iters=50,
        beta2=0.98,
    )


def split_micro_batch(train: TrainConfig, config: GPTConfig, device: str) -> tuple[int, int]:
    """Micro-batch and accumulation with the same effective batch, in smaller pieces on a CPU.

    Pieces of about 2,048 tokens keep activations in the caches: 5 to 10 % faster in fp32 than 4,096
    (docs/experiments.md 2026-11-25). Narrow networks have room for more.
    """
    if device != "cpu":
        return train.batch_size, train.gradient_accumulation_steps
    whole = train.batch_size * train.gradient_accumulation_steps
    tokens = 2048 if config.n_embd >= 256 else 4096
    piece = max(1, min(train.batch_size, tokens // config.block_size or 1))
    while whole % piece:
        piece -= 1
    return piece, whole // piece


def memory_needed(config: GPTConfig, train: TrainConfig, micro_batch: int, precision: str = "fp32") -> float:
    """Bytes that training takes, the program itself left out: weights, gradients, optimizer, and one micro-batch.

    Counted from the network: fp32 weights and gradients, two more for AdamW or one for Muon's matrices, one for a running
    average; about 24 n_embd + 5 ffn_hidden kept numbers per token and layer, and the loss's chunk of logits.
    """
    copies = 3 + (train.optimizer == "adamw") + (train.ema > 0)
    width = 4 if precision == "fp32" else 2
    tokens = micro_batch * config.block_size
    hidden = config.experts_per_token * (config.expert_hidden + config.n_embd) if config.n_expert else config.ffn_hidden
    kept: float = tokens * config.n_layer * (24 * config.n_embd + 5 * hidden) * width
    if train.gradient_checkpointing:
        kept = kept / config.n_layer + tokens * config.n_layer * config.n_embd * width
    return 4.0 * copies * config.parameters() + kept + 3 * 4 * 512 * config.vocab_size


def compile_pays(execution: Execution, seconds: float) -> tuple[bool, str]:
    """Whether compiling (about a minute on two cores) wins its time back in a run of `seconds`."""
    if not execution.compile:
        return False, "not available"
    least = 180 if execution.device == "cuda" else 480 if execution.precision == "bf16" else 3600
    if seconds < least:
        return False, f"the run is shorter than the {least // 60} minutes from which it pays"
    return True, "the run is long enough for it to pay"
