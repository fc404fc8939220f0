"""Made-up Tatar and Sakha lines, a prepared corpus of the former, an archive of the latter."""

from __future__ import annotations

import gzip
import io
import random
import tarfile
from pathlib import Path

from tatar_llm.workspace import Workspace, sha256_file, write_json, write_text

WHO = ("Әби", "Бабай", "Әни", "Әти", "Апа", "Абый", "Укытучы", "Күрше")
WHEN = ("бүген", "хәзер", "иртән", "кичен")
WHERE = ("өйдә", "бакчада", "авылда", "мәктәптә", "урамда", "шәһәрдә")
WHAT = ("китап укый", "җыр җырлый", "чәй эчә", "хат яза", "су ташый", "эш эшли", "дустын көтә", "кар көри")

SAKHA_KIN = ("эбэм", "эһэм", "ийэм", "аҕам", "эдьиийим", "убайым", "доҕорум", "балтым", "быраатым", "ыалбыт")
SAKHA_PEOPLE = ("учуутал", "суруналыыс", "булчут", "балыксыт", "быраас", "оҕо", "кыыс", "уол")
SAKHA_HOW = ("кыра", "эдэр", "кырдьаҕас", "үчүгэй", "сылайбыт", "үөрбүт")
SAKHA_WHEN = ("бүгүн", "билигин", "сарсыарда", "киэһэ", "күнүс", "түүн", "сайын", "кыһын", "күһүн", "саас")
SAKHA_WHERE = (
    "дьиэҕэ", "оскуолаҕа", "тыаҕа", "куоракка", "дэриэбинэҕэ", "тэлгэһэҕэ", "күөлгэ", "сыһыыга", "үрэххэ", "балаҕаҥҥа", "хочоҕо",
    "кулуупка",
)  # fmt: skip
SAKHA_WHAT = (
    "кинигэ ааҕар", "ырыа ыллыыр", "чэй иһэр", "сурук суруйар", "уу баһар", "доҕорун күүтэр", "балык балыктыыр", "хаар көрөр",
    "остуоруйа кэпсиир", "мас кэрдэр", "от охсор", "ас астыыр", "отон хомуйар", "ынах ыыр", "килиэп буһарар", "оҕолору үөрэтэр",
    "үҥкүүлүүр", "күлэр", "утуйар",
)  # fmt: skip
SAKHA_LOOK_ALIKES = str.maketrans({"ө": "ѳ", "Ө": "Ѳ", "ҥ": "ң", "ҕ": "ғ", "һ": "h", "а": "a", "о": "o"})
"""Letters as other keyboards have them: cleaning must bring the Sakha ones back."""
RUSSIAN_WHO = ("Моя мама", "Её сестра", "Его друг", "Наша соседка", "Мой учитель", "Этот мальчик")
RUSSIAN_WHEN = ("после обеда", "перед сном", "через час", "только сейчас", "уже сегодня", "всегда зимой")
RUSSIAN_WHAT = (
    "читает свои книги", "не может найти дорогу", "идёт с ними в лес", "очень ждёт это письмо", "пишет ему из города",
    "готовит чай для всех", "говорит, что надо спать", "смотрит, где они живут",
)  # fmt: skip
SAKHA_ARCHIVE = "sah_made_up_2024_10K"


def tatar_lines(count: int, seed: int = 0) -> list[str]:
    """`count` simple sentences, always the same ones for a seed."""
    source = random.Random(seed)
    return [
        f"{source.choice(WHO)} {source.choice(WHEN)} {source.choice(WHERE)} {source.choice(WHAT)}."
        for _ in range(count)
    ]


def sakha_lines(count: int, seed: int = 0) -> list[str]:
    """`count` different Sakha sentences of one or two clauses, always the same ones for a seed."""
    source = random.Random(seed)
    pick = source.choice

    def who() -> str:
        return pick(SAKHA_KIN) if source.random() < 0.5 else f"{pick(SAKHA_HOW)} {pick(SAKHA_PEOPLE)}"

    def sentence() -> str:
        when, where, what, other = pick(SAKHA_WHEN), pick(SAKHA_WHERE), pick(SAKHA_WHAT), pick(SAKHA_WHAT)
        return pick((
            f"{who()} {when} {where} {what}",
            f"{who()} {when} {where} {what}, оттон {who()} {other}",
            f"{when} {who()} {where} {what} уонна {other}",
            f"{who()} {what}, онтон {where} {other}",
            f"{where} {who()} {what}, {who()} эмиэ {other}",
        ))  # fmt: skip

    found: dict[str, None] = {}
    while len(found) < count:
        text = sentence()
        found[f"{text[0].upper()}{text[1:]}."] = None
    return list(found)


def russian_lines(count: int, seed: int = 0) -> list[str]:
    """`count` Russian sentences, some twice: the lines that every corpus of a language of Russia holds."""
    source = random.Random(seed)
    pick = source.choice
    return [f"{pick(RUSSIAN_WHO)} {pick(RUSSIAN_WHEN)} {pick(RUSSIAN_WHAT)}." for _ in range(count)]


def dirty_sakha_lines(count: int, seed: int = 0) -> list[str]:
    """`sakha_lines` as a web corpus would have them: one line in 20 with look-alikes, another one in 20 Russian."""
    russian = iter(russian_lines(count, seed))
    lines = sakha_lines(count, seed)
    for place in range(count):
        if place % 20 == 7:
            lines[place] = lines[place].translate(SAKHA_LOOK_ALIKES)
        elif place % 20 == 13:
            lines[place] = next(russian)
    return lines


def write_sakha_archive(folder: Path, count: int = 10_000, seed: int = 0) -> Path:
    """`dirty_sakha_lines` packed as Leipzig does, sah_made_up_2024_10K.tar.gz; the same bytes each time."""
    path = folder / f"{SAKHA_ARCHIVE}.tar.gz"
    rows = enumerate(dirty_sakha_lines(count, seed), 1)
    files = {"sources": "1\thttps://example.org\t2024-01-01\n", "sentences": "".join(f"{row}\t{line}\n" for row, line in rows)}
    with gzip.GzipFile(path, "wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, text in files.items():
            raw = text.encode("utf-8")
            info = tarfile.TarInfo(f"{SAKHA_ARCHIVE}/{SAKHA_ARCHIVE}-{name}.txt")
            info.size = len(raw)
            archive.addfile(info, io.BytesIO(raw))
    return path


def write_corpus(workspace: Workspace, train: list[str], val: list[str], document: str = "line") -> None:
    """A prepared corpus: documents (of several lines where `document` is "blank"), with the manifest that goes along."""
    end = "\n" if document == "line" else "\n\n"
    for path, documents in ((workspace.train_text, train), (workspace.val_text, val)):
        write_text(path, "".join(text + end for text in documents))
    facts = {"document": document, "language": "tat", "corpus": "made-up", "fallback": None}
    parts = {
        name: {"sha256": sha256_file(path), "bytes": path.stat().st_size, "lines": len(documents),
               "documents": len(documents)}
        for name, path, documents in (("train", workspace.train_text, train), ("val", workspace.val_text, val))
    }
    sources = [{"name": "made-up", "documents": len(train) + len(val), "bytes": parts["train"]["bytes"]}]
    write_json(workspace.corpus_manifest, facts | parts | {"sources": sources})
