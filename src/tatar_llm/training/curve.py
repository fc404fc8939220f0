"""curve.png: the run's loss in bits per byte against the lines that tell whether it is any good."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tatar_llm.workspace import whole_file


def draw_curve(path: Path, metrics: list[dict[str, Any]], baselines: dict[str, float], title: str) -> None:
    """Draw training and validation loss over tokens, with unigram and bigram baselines of the same text."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=110, layout="constrained")
    axes = figure.subplots()
    train = [(row["tokens"] / 1e6, row["bits_per_byte"]) for row in metrics if "bits_per_byte" in row]
    val = [(row["tokens"] / 1e6, row["val_bits_per_byte"]) for row in metrics if "val_bits_per_byte" in row]
    if train:
        axes.plot(*zip(*train, strict=True), color="0.7", linewidth=1, label="training")
    if val:
        axes.plot(*zip(*val, strict=True), color="tab:blue", marker="o", markersize=3, label="validation")
        lowest = min(val, key=lambda point: point[1])
        axes.annotate(f"{lowest[1]:.3f}", lowest, textcoords="offset points", xytext=(0, -12), ha="center")
    for name, color in (("unigram", "tab:red"), ("bigram", "tab:orange")):
        if name in baselines:
            axes.axhline(baselines[name], color=color, linestyle="--", linewidth=1)
            axes.text(0.99, baselines[name], f"{name} {baselines[name]:.3f}", color=color, ha="right", va="bottom",
                      transform=axes.get_yaxis_transform())  # fmt: skip
    shown = [value for _, value in val] + list(baselines.values())
    if shown:
        axes.set_ylim(0.9 * min(shown + [value for _, value in train[-5:]]), 1.25 * max(baselines.values(), default=3))
    axes.set(xlabel="training tokens, millions", ylabel="bits per byte (lower is better)", title=title)
    axes.grid(alpha=0.3)
    if train or val:
        axes.legend()
    with whole_file(path) as temporary:
        figure.savefig(temporary, format="png")
