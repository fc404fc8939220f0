"""The evaluation report: what it says of a good, a bad and a small model."""

from __future__ import annotations

from typing import Any

from tatar_llm.evaluation.report import markdown


def report(**changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "model": "001-tiny", "parameters": 900_000, "corpus": "sample", "fallback": None, "text": "the held-out text",
        "share": 1, "tokens": 1000, "bytes": 4000, "bits_per_byte": 0.9, "interval": [0.8, 1.0], "nats_per_token": 4.0,
        "perplexity": 54.6, "baselines": {"bigram": 1.0, "unigram": 1.5}, "small": False,
        "samples": [{"prompt": "Казан ", "continuation": "зур.\nУл матур.", "seed": 0}], "known_words": 0.95,
        "copied": 0.1,
    }  # fmt: skip
    return facts | changes


def test_a_good_model() -> None:
    text = markdown(report())
    assert "**0.900** (0.800 to 1.000)" in text and "10.0% below the bigram" in text
    assert "95.0%" in text and "- **Казан **зур. / Ул матур." in text
    assert "very small" not in text


def test_the_outcome_stands_beside_what_was_expected() -> None:
    assert "the planner expected 0.870 bits per byte" in markdown(report(expected_bits_per_byte=0.87))
    assert "planner" not in markdown(report(expected_bits_per_byte=None))


def test_a_bad_small_and_substituted_one() -> None:
    text = markdown(report(bits_per_byte=1.2, small=True, fallback="The sample stands in.", share=0.25))
    assert "20.0% above the bigram" in text and "cannot judge a model" in text
    assert "**Note:** The sample stands in." in text and "a fixed 25% of the held-out text" in text


def test_a_text_without_baselines_and_samples() -> None:
    text = markdown(report(baselines={}, samples=[], interval=[]))
    assert "bigram" not in text and "Samples" not in text
