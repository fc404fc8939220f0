"""The grammar's forms against two lists made by others.

    python benchmarks/grammar.py --unimorph tat.tsv --morphan words.csv --counts word_counts.tsv.xz

UniMorph's file for `tat` is written in the Latin alphabet of Crimean Tatar and holds Crimean Tatar forms (ablative -dan
after nasals, where Kazan Tatar has -нан): its lemmas are matched letter by letter with ours, and the endings compared.
words.csv is the list of analysed Kazan Tatar forms inside the py-tat-morphan source distribution (MIT). The counts are
words of Tatar books: for each form of ours, is the same word with the other harmony, voicing or assimilation more usual?
"""

from __future__ import annotations

import argparse
import collections
import lzma
from collections.abc import Iterator
from pathlib import Path

from tatar_llm.grammar.lexicon import Lemma, by_class
from tatar_llm.grammar.nouns import CASES, PERSONS, noun
from tatar_llm.grammar.phonology import Form
from tatar_llm.grammar.verbs import NON_FINITE, TENSES, imperative, non_finite, verb

LATIN = dict(zip("абвдежзийлмноөпрстуүфхһчшыэәҗңг", "abvdejziylmnoöprstuüfhhçşıeecñg", strict=True)) | {"ц": "ts", "ь": "", "ъ": ""}
FALSE_FRIENDS = {"ел"}  # year here; el is a hand there
CASE_NAMES = {"NOM": "nom", "GEN": "gen", "DAT": "dat", "ACC": "acc", "ABL": "abl", "LOC": "loc"}
# the analyser's own names
MORPHAN_POSSESSORS = {"POSS_1SG": "1sg", "POSS_2SG": "2sg", "POSS_3": "3sg", "POSS_1PL": "1pl", "POSS_2PL": "2pl"}
MORPHAN_CASES = {"Nom": "nom", "GEN": "gen", "DIR": "dat", "ACC": "acc", "ABL": "abl", "LOC": "loc"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--unimorph", type=Path, help="UniMorph's tat file")
    parser.add_argument("--morphan", type=Path, help="words.csv of py-tat-morphan")
    parser.add_argument("--counts", type=Path, help="word<TAB>count, .xz")
    parser.add_argument("--all", action="store_true", help="list every disagreement")
    args = parser.parse_args()
    print("| list | lemmas in both | forms compared | equal | |\n|---|---:|---:|---:|---|")
    if args.unimorph:
        against_unimorph(args.unimorph, args.all)
    if args.morphan:
        against_morphan(args.morphan, args.all)
    if args.counts:
        against_counts(args.counts, args.all)


def row(name: str, lemmas: int, forms: int, equal: int, wrong: list[str], show: bool, note: str = "") -> None:
    print(f"| {name} | {lemmas:,} | {forms:,} | {equal / max(forms, 1):.1%} | {note} |")
    for line in wrong if show else wrong[:12]:
        print(f"    {line}")


def latin(word: str, back: bool) -> str:
    """Kazan Tatar in the Latin alphabet of Crimean Tatar."""
    letters = {"к": "q" if back else "k", "г": "ğ" if back else "g", "я": "ya" if back else "ye", "ю": "yu" if back else "yü"}
    return "".join(letters.get(letter) or LATIN.get(letter, letter) for letter in word)


def against_unimorph(path: Path, show: bool) -> None:
    theirs: dict[str, dict[str, str]] = collections.defaultdict(dict)
    for line in path.read_text(encoding="utf-8").splitlines():
        lemma, form, features = [*line.split("\t"), "", ""][:3]
        if features.startswith("N;"):
            theirs[lemma][CASE_NAMES.get(features[2:], features)] = form
    lemmas = forms = equal = nasal = 0
    wrong: list[str] = []
    for lemma in by_class("noun"):
        name = next((name for name in (latin(lemma.word, lemma.back), latin(lemma.word, lemma.back).replace("e", "i"))
                     if name in theirs), None)  # fmt: skip
        if name is None or "possessed" in lemma.marks or lemma.word in FALSE_FRIENDS:
            continue
        lemmas += 1
        for case in CASES[1:]:
            if case not in theirs[name]:
                continue
            ending = "".join(noun(lemma, case).morphs[1:])
            ours = name + latin(ending.replace("е", "и"), lemma.back)
            forms += 1
            if ours == theirs[name][case]:
                equal += 1
            elif case == "abl" and ours.replace("nan", "dan").replace("nen", "den") == theirs[name][case]:
                nasal += 1
            else:
                wrong.append(f"{lemma.word} {case}: {noun(lemma, case)} ({ours}), theirs {theirs[name][case]}")
    row("UniMorph, as it stands", lemmas, forms, equal, [], show, f"{nasal} ablatives after nasals: -нан here, -dan in Crimean Tatar")
    row("UniMorph, these apart", lemmas, forms - nasal, equal, wrong, show)


def morphan_noun(tags: list[str]) -> tuple[bool, str | None, str] | None:
    """(plural, possessor, case) of an analysis, None where it is none of a noun's that we make."""
    plural, possessor, case = False, None, None
    for tag in tags:
        name = tag.partition("(")[0]
        if name in ("Sg", "PL"):
            plural = name == "PL"
        elif name in MORPHAN_CASES:
            case = MORPHAN_CASES[name]
        elif name.startswith("POSS_"):
            possessor = MORPHAN_POSSESSORS.get(name)
            if possessor is None:
                return None
        else:
            return None
    return (plural, possessor, case) if case else None


def against_morphan(path: Path, show: bool) -> None:
    nouns = {lemma.word: lemma for lemma in by_class("noun") if "possessed" not in lemma.marks}
    theirs: dict[tuple[str, tuple], set[str]] = collections.defaultdict(set)
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            form, _, analyses = line.strip().partition("\t")
            for analysis in analyses.split(";"):
                lemma, *tags = analysis.strip().split("+")
                if tags[:1] == ["N"] and lemma in nouns and (found := morphan_noun(tags[1:])):
                    theirs[lemma, found].add(form)
    forms = equal = 0
    wrong = []
    for (word, (plural, possessor, case)), found in theirs.items():
        ours = str(noun(nouns[word], case, plural=plural, possessor=possessor))
        forms += 1
        if ours in found:
            equal += 1
        else:
            wrong.append(f"{word} {'pl ' if plural else ''}{possessor or ''} {case}: {ours}, theirs {', '.join(sorted(found))}")
    row("py-tat-morphan, nouns by analysis", len({word for word, _ in theirs}), forms, equal, wrong, show)
    against_morphan_verbs(path, show)


TENSE_TAGS = {"PRES": "present", "PST_DEF": "past", "PST_INDF": "past_indefinite", "FUT_DEF": "future",
              "FUT_INDF": "future_indefinite", "FUT_INDF_NEG": "future_indefinite", "COND": "conditional"}  # fmt: skip
FORM_TAGS = {"INF_1": "infinitive", "VN_1": "verbal_noun", "ADVV_ACC": "converb", "ADVV_ANT": "converb_after",
             "ADVV_NEG": "converb_without"}  # fmt: skip
MOOD_TAGS = {"IMP_SG": "2sg", "IMP_PL": "2pl", "JUS_SG": "3sg", "HOR_SG": "1sg"}


def our_verb(lemma: Lemma, tags: list[str]) -> str | None:
    """Our form for an analysis; None where it is none of those that the grammar makes."""
    names = [tag.partition("(")[0] for tag in tags]
    negative = names[:1] == ["NEG"]
    head, *rest = names[1:] if negative else names or [""]
    if head in TENSE_TAGS and len(rest) < 2:
        person = rest[0].lower() if rest else "3sg"
        long_first = rest and tags[-1] == "1SG(мЫн)" and head in ("PRES", "FUT_INDF_NEG")  # барамын beside барам
        if person in PERSONS and not (rest and person == "3sg") and not long_first:
            return str(verb(lemma, TENSE_TAGS[head], person, negative=negative or head == "FUT_INDF_NEG"))
    if head in MOOD_TAGS and not rest:
        return str(imperative(lemma, MOOD_TAGS[head], negative=negative))
    if head in FORM_TAGS and rest in ([], ["Nom"]) and not negative:
        return str(non_finite(lemma, FORM_TAGS[head]))
    return None


def against_morphan_verbs(path: Path, show: bool) -> None:
    verbs = {lemma.word: lemma for lemma in by_class("verb")}
    theirs: dict[tuple[str, str], tuple[str, set[str]]] = {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            form, _, analyses = line.strip().partition("\t")
            for analysis in analyses.split(";"):
                lemma, *tags = analysis.strip().split("+")
                if tags[:1] == ["V"] and lemma in verbs and (ours := our_verb(verbs[lemma], tags[1:])):
                    theirs.setdefault((lemma, " ".join(tags[1:])), (ours, set()))[1].add(form)
    wrong = [f"{lemma} {tags}: {ours}, theirs {', '.join(sorted(found))}"
             for (lemma, tags), (ours, found) in theirs.items() if ours not in found]  # fmt: skip
    lemmas = {lemma for lemma, _ in theirs}
    row("py-tat-morphan, verbs by analysis", len(lemmas), len(theirs), len(theirs) - len(wrong), wrong, show)


def paradigms() -> Iterator[tuple[Lemma, list[Form]]]:
    """Each noun and verb with its forms."""
    for lemma in by_class("noun"):
        forms = [noun(lemma, case) for case in CASES]
        if "possessed" not in lemma.marks:
            forms += [noun(lemma, plural=True), noun(lemma, "dat", possessor="1sg")]
            forms += [noun(lemma, possessor=person) for person in PERSONS]
            forms += [noun(lemma, case, possessor="3sg") for case in CASES]
        yield lemma, forms
    for lemma in by_class("verb"):
        forms = [verb(lemma, tense, person, negative=negative)
                 for tense in TENSES for person in ("1sg", "3sg") for negative in (False, True)]  # fmt: skip
        forms += [non_finite(lemma, kind) for kind in NON_FINITE] + [imperative(lemma, person) for person in PERSONS]
        yield lemma, forms


def against_counts(path: Path, show: bool) -> None:
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        known = {word: int(count) for word, count in (line.rstrip("\n").split("\t") for line in lines)}
    lemmas = forms = equal = 0
    wrong = []
    for _lemma, made in paradigms():
        lemmas += 1
        for form in made:
            word = str(form).rpartition(" ")[2].lower()
            count = known.get(word, 0)
            rivals = {rival for rival in rivals_of(form) if known.get(rival, 0)}
            best = max(rivals, key=known.__getitem__, default="")
            if not count and not best:
                continue
            forms += 1
            if known.get(best, 0) > max(3 * count, 2):
                wrong.append(f"{word} ({count} times), but {best} ({known[best]} times)")
            else:
                equal += 1
    row("word counts of books: no rival spelling 3 times as frequent", lemmas, forms, equal, wrong, show, "forms that stand in the books")


def rivals_of(form: Form) -> set[str]:
    """The same form with the other harmony or the other voicing of its stem."""
    if len(form.morphs) < 2:
        return set()
    stem, endings = form.morphs[0].rpartition(" ")[2].lower(), "".join(form.morphs[1:])
    found = {stem + endings.translate(str.maketrans("аәыеуү", "әаеыүу"))}
    for one, other in (("к", "г"), ("п", "б"), ("б", "п"), ("г", "к")):
        if stem.endswith(one):
            found.add(stem[:-1] + other + endings)
    for one, other in (("да", "та"), ("дә", "тә"), ("га", "ка"), ("гә", "кә"), ("ла", "на"), ("лә", "нә")):
        if len(form.morphs) == 2 and endings in (one + "н", one + "р", one):
            found.add(stem + other + endings[2:])
    return found - {stem + endings}


if __name__ == "__main__":
    main()
