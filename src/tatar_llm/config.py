"""Every setting, as frozen dataclasses. The line under a field is its help text on the command line.

A recipe is a TOML file with the sections ``[tokenizer]``, ``[model]`` and ``[train]``; the command line overrides the
recipe, the recipe overrides the defaults below.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import math
import tomllib
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tatar_llm.errors import TatarLLMError, nearest

DEFAULT_SOURCE = "leipzig-mixed-2015-1m"


@dataclass(frozen=True)
class CorpusConfig:
    """What `prepare` reads and how it cleans."""

    source: tuple[str, ...] = (DEFAULT_SOURCE,)
    """Name of a source (see --list), or a path: .txt, .jsonl, .parquet, a Leipzig .tar.gz, a folder. Repeatable."""
    language: str = "tat"
    """Language code, or a TOML file that describes the language."""
    min_chars: int = 15
    """Shortest sentence kept, in characters (lines inside longer documents may be shorter)."""
    max_chars: int = 20000
    """Longest line, in characters; a longer one is cut at the ends of its sentences."""
    min_cyrillic: float = 0.5
    """Smallest share of a line's letters that must belong to the language's script."""
    near_threshold: float = 0.8
    """Similarity from which a long sentence, paragraph or document counts as a repeat of an earlier one; 0 keeps them."""
    holdout: tuple[str, ...] = ()
    """Evaluation text to keep out of training: lines that share 13 words in a row with it are removed. Repeatable."""
    val_share: float = 0.05
    """Share of the documents held out for validation (small corpora hold out more, the report says how much)."""
    limit_bytes: int = 0
    """Stop reading after about this many bytes of cleaned text; 0 reads everything."""
    sample_size: int = 3_000_000
    """Bytes of text that the grammar adds to the source `sample`; 0 takes the hand-written texts alone."""
    processes: int = 0
    """How many processes clean; 0 takes all cores. The result is the same for any number."""


@dataclass(frozen=True)
class TokenizerConfig:
    """How the tokenizer is trained."""

    vocab_size: int = 8192
    """Number of tokens, the 16 special and 256 byte tokens included; 272 to 65535."""
    min_frequency: int = 2
    """A pair of tokens seen fewer times than this is never merged (bpe alone)."""
    type: str = "bpe"
    """bpe, or unigram: the likeliest cut of each piece by a unigram model; for transformers and onnxruntime, not for llama.cpp."""
    morphemes: bool = False
    """With bpe: no merge is learnt across a morpheme end that the grammar knows (Tatar alone); encoding stays plain BPE."""
    train_file: str = ""
    """Text to learn from instead of data/processed/train.txt."""
    output_dir: str = ""
    """Where tokenizer.json goes, instead of tokenizer/."""

    def __post_init__(self) -> None:
        if self.type not in ("bpe", "unigram"):
            raise TatarLLMError(f"type is {self.type!r}: it must be bpe or unigram")
        if self.morphemes and self.type != "bpe":
            raise TatarLLMError("morpheme ends bound the merges of bpe, and unigram has none: leave --morphemes out")


LONGEST_CONTEXT = 1 << 17


@dataclass(frozen=True)
class GPTConfig:
    """The network: the graph that transformers calls Qwen3 (RMSNorm, QK-norm, RoPE, SwiGLU, grouped queries), dense with
    full or sliding-window attention, or Qwen3-MoE: a mixture of experts with full attention."""

    n_layer: int = 6
    """Number of transformer blocks."""
    n_head: int = 8
    """Number of query heads."""
    n_kv_head: int = 0
    """Number of key and value heads; 0 takes half of n_head where that is even, otherwise n_head."""
    n_embd: int = 512
    """Width of the residual stream."""
    ffn_hidden: int = 0
    """Width inside the feed-forward block; 0 takes 3 x n_embd."""
    block_size: int = 256
    """Context length in tokens."""
    vocab_size: int = 8192
    """Number of token ids; taken from the tokenizer when a run starts."""
    dropout: float = 0.0
    """Share of activations zeroed while training; helps from about 4 passes over the text."""
    tie_weights: bool = True
    """Use the token embedding as the output layer too."""
    rope_theta: float = 10000.0
    """Base of the rotary position embedding."""
    norm_eps: float = 1e-6
    """Added to the mean square inside RMSNorm."""
    sliding_window: int = 0
    """Newest tokens that a layer with a window sees, its own among them; 0: every layer sees the whole context."""
    window_pattern: str = "SSF"
    """With a sliding window: which layers have it (S) and which see everything (F), from the first on, repeated."""
    n_expert: int = 0
    """Experts in each feed-forward block, of which a router picks a few for each token; 0: one dense block."""
    experts_per_token: int = 2
    """Experts that a token goes through."""
    expert_hidden: int = 0
    """Width inside an expert; 0 takes ffn_hidden / experts_per_token: as many parameters at work as in a dense block."""

    def __post_init__(self) -> None:
        if not self.n_kv_head:
            object.__setattr__(self, "n_kv_head", self.n_head // 2 if self.n_head % 2 == 0 else self.n_head)
        if not self.ffn_hidden:
            object.__setattr__(self, "ffn_hidden", 3 * self.n_embd)
        self._check_experts()
        if self.n_expert and not self.expert_hidden:
            object.__setattr__(self, "expert_hidden", max(1, self.ffn_hidden // self.experts_per_token))
        for name in ("n_layer", "n_head", "n_kv_head", "n_embd", "ffn_hidden", "block_size", "vocab_size"):
            if getattr(self, name) < 1:
                raise TatarLLMError(f"{name} is {getattr(self, name)}: it must be at least 1")
        if self.n_embd % self.n_head:
            raise TatarLLMError(
                f"n_embd {self.n_embd} is not divisible by n_head {self.n_head}: "
                f"take --n_embd {self.n_embd // self.n_head * self.n_head or self.n_head} or another --n_head"
            )
        if self.head_dim % 2:
            raise TatarLLMError(
                f"n_embd / n_head is {self.head_dim}, an odd number: rotary positions need an even one"
            )
        if self.n_head % self.n_kv_head:
            raise TatarLLMError(f"n_head {self.n_head} is not divisible by n_kv_head {self.n_kv_head}")
        if self.vocab_size > 65535:
            raise TatarLLMError(f"vocab_size {self.vocab_size} is over 65535, the largest that a token file can hold")
        if self.block_size > LONGEST_CONTEXT:
            raise TatarLLMError(f"block_size {self.block_size:,} is over {LONGEST_CONTEXT:,} tokens")
        if not 0 <= self.dropout < 1:
            raise TatarLLMError(f"dropout {self.dropout} is outside [0, 1)")
        for name in ("rope_theta", "norm_eps"):
            if not 0 < getattr(self, name) < math.inf:
                raise TatarLLMError(f"{name} is {getattr(self, name)}: it must be a number greater than 0")
        self._check_window()

    def _check_experts(self) -> None:
        if self.n_expert < 0 or self.n_expert == 1:
            raise TatarLLMError(f"n_expert is {self.n_expert}: take 2 or more, or 0 for a dense network")
        if self.n_expert and not 1 <= self.experts_per_token <= self.n_expert:
            raise TatarLLMError(f"experts_per_token {self.experts_per_token} does not fit n_expert {self.n_expert}: it lies between 1 and {self.n_expert}")
        if self.expert_hidden < 0:
            raise TatarLLMError(f"expert_hidden is {self.expert_hidden}: it must be at least 1, or 0 for ffn_hidden / experts_per_token")

    def _check_window(self) -> None:
        if not self.sliding_window:
            return
        if self.n_expert:
            raise TatarLLMError("experts and a sliding window do not go together (no stock network has both): leave n_expert or sliding_window at 0")
        if not 1 <= self.sliding_window < self.block_size:
            raise TatarLLMError(
                f"sliding_window {self.sliding_window} does not fit a context of {self.block_size}: it must be smaller than "
                f"block_size, or 0 for full attention"
            )
        if not self.window_pattern or set(self.window_pattern) - {"S", "F"}:
            raise TatarLLMError(f"window_pattern is {self.window_pattern!r}: it is made of S (window) and F (full), as in SSF")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.n_embd // self.n_head

    @property
    def windows(self) -> tuple[int, ...]:
        """Tokens that each layer sees; 0 for the whole context."""
        letters = itertools.islice(itertools.cycle(self.window_pattern or "F"), self.n_layer)
        return tuple(self.sliding_window if letter == "S" else 0 for letter in letters)

    def parameters(self) -> int:
        """Number of trainable parameters of the network."""
        return self._parameters(self.n_expert)

    def active_parameters(self) -> int:
        """Number of parameters that a token goes through: without the experts that it is not sent to."""
        return self._parameters(self.experts_per_token)

    def _parameters(self, experts: int) -> int:
        attention = self.n_embd * self.head_dim * (2 * self.n_head + 2 * self.n_kv_head) + 2 * self.head_dim
        feed_forward = 3 * self.n_embd * (experts * self.expert_hidden if self.n_expert else self.ffn_hidden)
        block = attention + feed_forward + self.n_expert * self.n_embd + 2 * self.n_embd
        embeddings = self.vocab_size * self.n_embd * (1 if self.tie_weights else 2)
        return self.n_layer * block + embeddings + self.n_embd

    def flops_per_token(self) -> float:
        """Floating-point operations of one training token, forward and backward (matrix products and attention)."""
        matrices = self.active_parameters() - (0 if self.tie_weights else self.vocab_size * self.n_embd)
        seen = sum(window * (1 - window / (2 * self.block_size)) if window else self.block_size / 2 for window in self.windows)
        return 6.0 * (matrices + 2 * self.n_head * self.head_dim * seen)  # QK and AV; each query sees `seen` keys in the mean


@dataclass(frozen=True)
class TrainConfig:
    """How the network is trained."""

    batch_size: int = 32
    """Windows of block_size tokens in one micro-batch."""
    gradient_accumulation_steps: int = 4
    """Micro-batches whose gradients are added before one optimizer step."""
    max_iters: int = 10000
    """Optimizer steps."""
    optimizer: str = "adamw"
    """adamw, or muon: Muon for the matrices inside the blocks, AdamW for the rest."""
    learning_rate: float = 3e-4
    """Peak learning rate of AdamW."""
    muon_rate: float = 0.02
    """Peak learning rate of Muon, where it is used."""
    min_lr: float = 0.1
    """Learning rate at the end, as a share of the peak."""
    schedule: str = "cosine"
    """cosine, linear, or wsd (constant, then a linear cooldown): how the learning rate falls after warmup."""
    cooldown: float = 0.3
    """With the schedule wsd: share of the steps over which the learning rate falls."""
    warmup_iters: int = 100
    """Steps over which the learning rate rises from zero."""
    weight_decay: float = 0.1
    """Decoupled weight decay, on matrices only."""
    beta1: float = 0.9
    """AdamW's decay of the mean gradient."""
    beta2: float = 0.95
    """AdamW's decay of the mean squared gradient."""
    ema: float = 0.0
    """Decay of a running average of the weights, which is then what is measured and kept; 0 averages nothing."""
    z_loss: float = 0.0
    """Weight of the squared logarithm of the softmax's normaliser, added to the loss; 0 leaves it out."""
    balance_loss: float = 0.01
    """Mixture of experts: weight of the loss that spreads tokens evenly over the experts."""
    router_z_loss: float = 1e-3
    """Mixture of experts: weight of the squared logarithm of the router's normaliser, which keeps its logits small."""
    grad_clip: float = 1.0
    """Largest gradient norm; 0 turns clipping off."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    eval_interval: int = 0
    """Steps between validations; 0 chooses so that they take at most 3 % of the time."""
    checkpoint_interval: int = 0
    """Steps between checkpoints; 0 writes one about every 2 minutes."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints are kept."""
    log_interval: int = 10
    """Steps between lines in metrics.jsonl."""
    tensorboard: bool = False
    """Write TensorBoard's events beside metrics.jsonl (needs: pip install tensorboard)."""
    patience: int = 10
    """Stop after this many validations without a better loss; 0 never stops early."""
    precision: str = "auto"
    """auto, bf16, fp16 or fp32 (then Muon too works in fp32)."""
    compile: str = "auto"
    """auto, on or off: torch.compile."""
    device: str = "auto"
    """auto, cpu, cuda, mps."""
    seed: int = 0
    """Seed of weights, data order and dropout."""
    name: str = ""
    """Name of the run; the recipe's name by default."""

    def __post_init__(self) -> None:
        least = {"batch_size": 1, "gradient_accumulation_steps": 1, "max_iters": 1, "keep_checkpoints": 1,
                 "log_interval": 1, "warmup_iters": 0, "eval_interval": 0, "checkpoint_interval": 0, "patience": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise TatarLLMError(f"{name} is {getattr(self, name)}: it must be at least {bound}")
        for name, choices in {"optimizer": ("adamw", "muon"), "schedule": ("cosine", "linear", "wsd"), "precision": ("auto", "bf16", "fp16", "fp32"),
                              "compile": ("auto", "on", "off")}.items():
            if getattr(self, name) not in choices:
                raise TatarLLMError(f"{name} is {getattr(self, name)!r}: it must be one of {', '.join(choices)}")
        if not 0 < self.learning_rate < math.inf:
            raise TatarLLMError(f"learning_rate is {self.learning_rate}: it must be a number greater than 0")
        for name in ("weight_decay", "grad_clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise TatarLLMError(f"{name} is {getattr(self, name)}: it must be a number of at least 0")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise TatarLLMError(f"{name} is {getattr(self, name)}: it must be at least 0 and below 1")
        for name in ("ema", "cooldown", "min_lr", "z_loss", "balance_loss", "router_z_loss"):
            if not 0 <= getattr(self, name) <= 1 or (name == "ema" and self.ema == 1):
                raise TatarLLMError(f"{name} is {getattr(self, name)}: it must lie between 0 and 1")


@dataclass(frozen=True)
class ChatConfig:
    """What a model learns to answer from."""

    data: tuple[str, ...] = ()
    """Conversations of your own: .jsonl, .json or .parquet (messages, Alpaca, ShareGPT), a folder, USER/NAME on the Hub. Repeatable."""
    builtin: bool = True
    """Also the Tatar conversations that come with the package; --builtin no leaves them out."""
    plain_share: float = 0.25
    """Share of ordinary text among what is trained on, against forgetting."""
    passes: int = 30
    """Most passes over the conversations; the time may end before."""

    def __post_init__(self) -> None:
        if not 0 <= self.plain_share < 1:
            raise TatarLLMError(f"plain_share is {self.plain_share}: it must be at least 0 and below 1")
        if self.passes < 1:
            raise TatarLLMError(f"passes is {self.passes}: it must be at least 1")


@dataclass(frozen=True)
class Recipe:
    """Complete settings for one model: what its tokenizer, network and training look like."""

    name: str = "base"
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: GPTConfig = GPTConfig()
    train: TrainConfig = TrainConfig()


SECTIONS: dict[str, type] = {"tokenizer": TokenizerConfig, "model": GPTConfig, "train": TrainConfig}
Config = TypeVar("Config")


def recipe_folder() -> Path:
    """Where the recipes lie: inside an installed wheel, or at the root of a checkout."""
    installed = Path(__file__).parent / "recipes"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "recipes"


def recipe_names() -> list[str]:
    """Names that `--recipe` knows."""
    return sorted(path.stem for path in recipe_folder().glob("*.toml"))


def load_recipe(name: str, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe by name or path and apply `overrides` (flat field names, None values ignored).

    Raises TatarLLMError for an unknown recipe, section, key, or a value of the wrong type, naming the nearest valid one.
    """
    path = Path(name) if name.endswith(".toml") else recipe_folder() / f"{name}.toml"
    if not path.is_file():
        raise TatarLLMError(f"no recipe {name!r}{nearest(name, recipe_names())}: there are {', '.join(recipe_names())}")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TatarLLMError(f"the recipe {path} is not valid TOML: {error}") from error
    given = {key: value for key, value in (overrides or {}).items() if value is not None}
    parts: dict[str, Any] = {}
    for section in table:
        if section not in SECTIONS and section != "description":
            raise TatarLLMError(f"the recipe {path} has an unknown section [{section}]{nearest(section, SECTIONS)}")
    for section, kind in SECTIONS.items():
        values = dict(table.get(section, {}))
        values |= {key: value for key, value in given.items() if key in field_names(kind)}
        parts[section] = from_values(kind, values, f"the recipe {path}")
    return Recipe(name=path.stem, **parts)


def field_names(kind: type) -> list[str]:
    """The names of a settings class's fields."""
    return [field.name for field in dataclasses.fields(kind)]


def from_values(kind: type[Config], values: dict[str, Any], where: str) -> Config:
    """Build a settings object from plain values, checking names and types."""
    types = field_types(typing.cast(type, kind))
    for key, value in values.items():
        if key not in types:
            raise TatarLLMError(f"{where}: unknown setting {key!r}{nearest(key, types)}")
        wanted = types[key]
        if wanted is float and type(value) is int:
            values[key] = float(value)
        elif typing.get_origin(wanted) is tuple:
            values[key] = tuple(value)
        elif type(value) is not wanted:
            raise TatarLLMError(f"{where}: {key} is {value!r}, expected {wanted.__name__}")
    return kind(**values)


@functools.cache
def field_types(kind: type) -> dict[str, Any]:
    """Field name -> resolved type."""
    hints = typing.get_type_hints(kind)
    return {name: hints[name] for name in field_names(kind)}


@functools.cache
def field_help(kind: type) -> dict[str, str]:
    """Field name -> the docstring under it."""
    body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
    return {
        field.target.id: note.value.value
        for field, note in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(note, ast.Expr)
        and isinstance(note.value, ast.Constant)
        and isinstance(note.value.value, str)
    }


def as_dict(config: Any) -> dict[str, Any]:
    """A settings object as plain values, for manifests and checkpoints."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(config).items()}
