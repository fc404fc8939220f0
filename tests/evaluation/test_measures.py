"""The measures one by one: what ships is as its card says, what users bring is checked, chance is where it should be."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tatar_llm.corpus.sources import Sample
from tatar_llm.errors import TatarLLMError
from tatar_llm.evaluation.bits import generated_bits, read_text, text_bits, xz_bits
from tatar_llm.evaluation.choice import multiple_choice, read_choices, read_topics, topics
from tatar_llm.evaluation.continuations import continuations, distinct, held_out_prompts, repetition
from tatar_llm.evaluation.copying import words
from tatar_llm.evaluation.goldfish import FLORES_LINES, goldfish, read_lines
from tatar_llm.evaluation.knowledge import knowledge, known_questions, read_questions
from tatar_llm.evaluation.pairs import minimal_pairs, read_pairs
from tatar_llm.evaluation.segmentation import morpheme_agreement, token_statistics, word_forms
from tatar_llm.evaluation.statistics import bootstrap, difference, share
from tatar_llm.grammar.generate import documents
from tatar_llm.grammar.phonology import Form


def written(path: Path, rows: list) -> Path:
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return path


class TestPairs:
    def test_what_ships_is_as_the_card_says(self) -> None:
        pairs = read_pairs()
        counts = Counter(pair["phenomenon"] for pair in pairs)
        assert len(counts) >= 12 and set(counts.values()) == {100}
        text = "\n".join(file.read_text(encoding="utf-8") for file in Sample().files())
        text += "\n".join("\n".join(document) for document in documents(3_000_000))
        lines, known = set(text.split("\n")), set(words(text))
        for pair in pairs:
            assert pair["good"] != pair["bad"] and not {pair["good"], pair["bad"]} & lines
            good, bad = words(pair["good"]), words(pair["bad"])
            if pair["phenomenon"] == "word_order":
                assert sorted(good) == sorted(bad)
                continue
            differing = [(one, other) for one, other in zip(good, bad, strict=True) if one != other]
            assert len(differing) == 1, pair
            assert (differing[0][0] in known) == (differing[0][1] in known), pair
        assert len({pair["good"] for pair in pairs}) == len(pairs)

    def test_a_model_without_training_guesses(self, tiny_model, tiny_tokenizer) -> None:
        found = minimal_pairs(tiny_model, *tiny_tokenizer, read_pairs()[::8])
        assert found.n == 200 and found.interval[0] < 0.62 and found.chance == 0.5
        assert len(found.parts) == 16 and np.mean(found.outcomes) == pytest.approx(found.value)

    def test_the_likelier_sentence_wins(self, tiny_model, tiny_tokenizer) -> None:
        pairs = [{"phenomenon": "x", "good": "Ә", "bad": "Әни чәй эчә дип уйлаган идем мин"}]
        turned = [{"phenomenon": "x", "good": pairs[0]["bad"], "bad": pairs[0]["good"]}]
        assert minimal_pairs(tiny_model, *tiny_tokenizer, pairs).value + minimal_pairs(tiny_model, *tiny_tokenizer, turned).value == 1
        same = [{"phenomenon": "x", "good": "Ә", "bad": "Ә"}]
        assert minimal_pairs(tiny_model, *tiny_tokenizer, same).value == 0.5

    @pytest.mark.parametrize(
        ("content", "message"),
        [("", "is empty"), ("{", "line 1 is not JSON"), ('{"good": "а"}', "line 1 lacks bad"), ("[1]", "line 1 lacks good, bad"),
         ('{"good": "а", "bad": "б"}\nsoup', "line 2 is not JSON")],
    )  # fmt: skip
    def test_bad_files(self, tmp_path: Path, content: str, message: str) -> None:
        (tmp_path / "p.jsonl").write_text(content, encoding="utf-8")
        with pytest.raises(TatarLLMError, match=message):
            read_pairs(tmp_path / "p.jsonl")

    def test_no_file_and_another_encoding(self, tmp_path: Path) -> None:
        with pytest.raises(TatarLLMError, match="does not exist"):
            read_pairs(tmp_path / "nowhere.jsonl")
        (tmp_path / "p.jsonl").write_bytes("Казан".encode("cp1251"))
        with pytest.raises(TatarLLMError, match="not UTF-8"):
            read_pairs(tmp_path / "p.jsonl")


class TestKnowledge:
    def test_a_model_without_training_guesses(self, tiny_model, tiny_tokenizer) -> None:
        right, alike, control = knowledge(tiny_model, *tiny_tokenizer)
        assert right.n == control.n >= 480 and right.details["facts"] == alike.n >= 80
        for found in (right, control):
            assert abs(found.value - found.chance) < 0.12
        assert 0 <= alike.value <= 1 and right.interval[0] <= right.value <= right.interval[1]

    def test_the_answer_stands_among_others_of_its_kind(self) -> None:
        for question in known_questions():
            assert len(set(question.choices)) == len(question.choices) >= 2
            assert len(question.openings) >= 6
            assert not any(opening.endswith(" ") for opening in question.openings)

    def test_the_users_own(self, tiny_model, tiny_tokenizer, tmp_path: Path) -> None:
        path = written(tmp_path / "f.jsonl", [{"openings": ["Бер", "Ике"], "answer": "өч", "wrong": ["дүрт", "биш"]}])
        right, alike, _ = knowledge(tiny_model, *tiny_tokenizer, read_questions(path))
        assert right.n == 2 and alike.n == 1 and right.chance == pytest.approx(1 / 3)
        for bad in ({"openings": [], "answer": "а", "wrong": ["б"]}, {"openings": ["а"], "answer": "а", "wrong": "б"}):
            with pytest.raises(TatarLLMError, match="fact 1"):
                read_questions(written(tmp_path / "b.jsonl", [bad]))


class TestChoice:
    ROWS = ({"question": "Бер?", "choices": ["а", "б"], "answer": "B", "subject": "s"},
            {"question": "Ике?", "choices": ["в", "г", "д", "е"], "answer": "a", "subject": "s"})  # fmt: skip

    def test_questions(self, tiny_model, tiny_tokenizer, tmp_path: Path) -> None:
        rows = read_choices(written(tmp_path / "q.jsonl", list(self.ROWS)))
        assert [row["right"] for row in rows] == [1, 0]
        found = multiple_choice(tiny_model, *tiny_tokenizer, rows)
        assert found.n == 2 and found.chance == pytest.approx(0.375) and set(found.parts) == {"s"}
        assert len(read_choices(tmp_path)) == 2

    @pytest.mark.parametrize("bad", [{"answer": "E"}, {"answer": "?"}, {"choices": ["а"]}, {"choices": "аб"}])
    def test_bad_questions(self, tmp_path: Path, bad: dict) -> None:
        with pytest.raises(TatarLLMError, match="question 1"):
            read_choices(written(tmp_path / "q.jsonl", [self.ROWS[0] | bad]))

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(TatarLLMError, match=r"no \.jsonl"):
            read_choices(tmp_path)

    def test_topics(self, tiny_model, tiny_tokenizer, tmp_path: Path) -> None:
        path = tmp_path / "t.tsv"
        path.write_text("index_id\tcategory\ttext\n1\tsports\tТуп уйныйлар.\n2\ttravel\tПоезд китте.\n", encoding="utf-8")
        found = topics(tiny_model, *tiny_tokenizer, read_topics(path))
        assert found.n == 2 and found.chance == 0.5
        path.write_text("a\tb\n1\t2\n", encoding="utf-8")
        with pytest.raises(TatarLLMError, match="category and text"):
            read_topics(path)


class TestGoldfish:
    def test_by_hand(self, tiny_model, tiny_tokenizer) -> None:
        from tatar_llm.evaluation.likelihood import encode, token_nats

        line = "Кичә без урманга бардык."
        ids = encode(*tiny_tokenizer, line)
        first = len(tiny_tokenizer[0].encode(line[: len(line) // 2], add_special_tokens=False).ids)
        expected = token_nats(tiny_model, [ids])[0][first:].sum() / np.log(2)
        found = goldfish(tiny_model, *tiny_tokenizer, [line, line])
        assert found.value == pytest.approx(expected) and found.n == 2 and not found.higher_is_better

    def test_the_published_table_stands_beside_flores_alone(self, tiny_model, tiny_tokenizer) -> None:
        assert "published" not in goldfish(tiny_model, *tiny_tokenizer, ["Бер", "Ике"]).details
        assert "published" in goldfish(tiny_model, *tiny_tokenizer, ["Бер"] * FLORES_LINES[0]).details

    def test_bad_files(self, tmp_path: Path) -> None:
        with pytest.raises(TatarLLMError, match="does not exist"):
            read_lines(tmp_path / "no.txt")
        (tmp_path / "e.txt").write_text(" \n\n", encoding="utf-8")
        with pytest.raises(TatarLLMError, match="is empty"):
            read_lines(tmp_path / "e.txt")


class TestText:
    def test_bits_of_texts(self, tiny_model, tiny_tokenizer) -> None:
        texts = ["Кичә без урманга бардык.", "Әни чәй куйды.", "Ике сүз."]
        found = text_bits(tiny_model, *tiny_tokenizer, texts, "bits", "bits per byte")
        assert found.details["bytes"] == sum(len(text.encode()) + 1 for text in texts)
        assert found.interval[0] <= found.value <= found.interval[1]
        assert found.details["bits_per_character"] > found.value > 0
        assert text_bits(tiny_model, *tiny_tokenizer, texts[:1], "bits", "").interval is None
        assert xz_bits("әәәә" * 1000) < 0.2

    def test_generated_text_is_other_than_the_samples(self, tiny_model, tiny_tokenizer) -> None:
        assert generated_bits(tiny_model, *tiny_tokenizer).n > 1000

    def test_bad_text(self, tmp_path: Path) -> None:
        (tmp_path / "e").write_text("\n", encoding="utf-8")
        (tmp_path / "c").write_bytes("Казан".encode("cp1251"))
        for name, message in (("e", "is empty"), ("c", "not UTF-8"), ("n", "does not exist")):
            with pytest.raises(TatarLLMError, match=message):
                read_text(tmp_path / name)

    def test_continuations(self, tiny_model, tiny_tokenizer) -> None:
        text = " ".join(f"сүз{number}" for number in range(60)) + "\nкыска юл"
        prompts = held_out_prompts(text, 5)
        assert len(prompts) == 1 and len(prompts[0][0].split()) == 16 and len(prompts[0][1].split()) == 24
        assert len(held_out_prompts("бер ике\n" * 60 + "\n\n" + "өч дүрт\n" * 60, 9)) == 6
        measures, made = continuations(tiny_model, *tiny_tokenizer, prompts)
        assert {measure.name for measure in measures} >= {"repetition", "distinct"} and made[0]["continuation"]
        assert continuations(tiny_model, *tiny_tokenizer, prompts)[1] == made

    def test_repetition_and_variety(self) -> None:
        assert repetition("а б в г д е") == 0 and repetition("а б в г а б в г") == 0.5 and repetition("") == 0
        assert distinct("а б а б") == pytest.approx(2 / 3) and distinct("а") == 0


class TestSegmentation:
    def test_morpheme_ends(self, tiny_tokenizer) -> None:
        class Encoding:
            def __init__(self, offsets):
                self.offsets = offsets

        class Cuts:  # cuts китапларда into китап|лар|да or not at all
            def __init__(self, ends):
                self.ends = ends

            def encode(self, text, add_special_tokens):
                ends = [0, *self.ends, len(text)]
                return Encoding(list(itertools.pairwise(ends)))

        form = [Form.of("китап").add("ЛАр").add("ДА")]
        assert morpheme_agreement(Cuts([6, 9]), form).value == 1
        assert morpheme_agreement(Cuts([6]), form).value == 0.5
        assert morpheme_agreement(Cuts([]), form).value == 0
        found = morpheme_agreement(Cuts([2, 6]), form)
        assert found.value == 0.5 and found.details["token ends that are morpheme ends"] == 0.5

    def test_forms_are_always_the_same(self, tiny_tokenizer) -> None:
        assert word_forms(50) == word_forms(50) and all(len(form.morphs) > 1 for form in word_forms(50))
        assert 0 < morpheme_agreement(tiny_tokenizer[0], word_forms(50)).chance < 1
        assert token_statistics(*tiny_tokenizer, "Казан урамнары", None)["tokens_per_word"] >= 1


class TestStatistics:
    def test_intervals(self) -> None:
        rng = np.random.default_rng(0)
        right = (rng.random(400) < 0.7).astype(float)
        low, high = bootstrap(right)
        assert low < right.mean() < high and high - low < 0.1
        wide = bootstrap(np.repeat(right[:40], 10), np.repeat(np.arange(40), 10))
        assert wide[1] - wide[0] > 2 * (high - low)  # ten answers to one question are not ten questions
        assert bootstrap([1.0]) is None

    def test_differences(self) -> None:
        one, other = np.tile([1.0, 0, 1, 1], 50), np.tile([1.0, 0, 0, 1], 50)
        gap, low, _high = difference(one, other)
        assert gap == pytest.approx(0.25) and low > 0
        assert difference(one, other[:-1]) is None

    def test_nothing_measured_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="nothing was measured"):
            share("x", "x", [])
