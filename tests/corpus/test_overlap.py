"""Evaluation texts are found by their runs of words."""

from __future__ import annotations

from tatar_llm.corpus.overlap import Overlap

WORDS = [f"сүз{number}" for number in range(40)]


def test_runs_of_thirteen_words() -> None:
    overlap = Overlap()
    overlap.add("a.txt", [" ".join(WORDS[:20])])
    assert overlap.texts == [1] and overlap
    assert overlap.find(" ".join(["башка", *WORDS[3:16], "сүзләр"])) == "a.txt"
    assert overlap.find("— " + ", ".join(WORDS[:13]).upper() + "!") == "a.txt"
    assert overlap.find(" ".join(WORDS[:12])) is None and overlap.find(" ".join(WORDS[8:15] + WORDS[16:20])) is None


def test_short_texts_count_as_a_whole_and_tiny_ones_not() -> None:
    overlap = Overlap()
    overlap.add("кыска", ["бер ике өч дүрт биш алты җиде", "бер ике", ""])
    overlap.add("икенче", ["бер ике өч дүрт биш алты җиде"])
    assert overlap.texts == [1, 1] and overlap.names == ["кыска", "икенче"]
    assert overlap.find("Ул: бер, ике, өч, дүрт, биш, алты, җиде – дип санады.") == "кыска"
    assert overlap.find("бер ике өч дүрт биш алты") is None and not Overlap()
