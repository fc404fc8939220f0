"""Lines of a stream of bytes, in blocks: UTF-8 with a few broken bytes, lines of any length, UTF-16 with its mark."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path

from tatar_llm.corpus.unpacking import BLOCK, Readable
from tatar_llm.errors import TatarLLMError

LONGEST_LINE = 1 << 20
"""Bytes. A longer line is handed on in pieces, so that a file without line ends does not fill the memory."""
JUDGED_FROM = 10_000
"""Lines. Up to here a file is judged at its end, since junk at the head may be all; later at every bad line."""
_SENTENCES = re.compile(r"(?:\d+\t)?+(.*)\n")
_SENTENCE_END = re.compile(rb"(?s:.*)(?:[.!?]|\xe2\x80\xa6)\s")
_SPACE = re.compile(rb"(?s:.*)\s")


def decode(raw: bytes, where: str | Path, offset: int) -> str:
    """UTF-8 bytes as text without the line end; raises TatarLLMError naming the byte that is not UTF-8."""
    try:
        return raw.decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise _not_utf8(where, offset + error.start, raw) from None


def _not_utf8(where: str | Path, offset: int, line: bytes) -> TatarLLMError:
    marks = [mark for mark in line[:LONGEST_LINE].decode("cp1251", "replace") if not mark.isascii()]
    # UTF-8 and KOI8-R read as Windows-1251 give symbols and capitals
    small = sum("а" <= mark <= "я" for mark in marks) > 0.6 * len(marks)
    guess = "it looks like Windows-1251, convert it" if small else "convert the file first, for example"
    return TatarLLMError(f"{where} is not UTF-8: byte {offset} cannot be read; {guess} with: iconv -f WINDOWS-1251 -t UTF-8")


class Utf8Lines:
    """Turns the lines of one file into text and counts those that are not UTF-8.

    Leipzig writes a number and a tab before every sentence; `numbered` takes them off.
    """

    def __init__(self, where: str | Path, numbered: bool) -> None:
        self.where, self.numbered = where, numbered
        self.offset = self.lines = self.bad = 0
        self.first_bad: tuple[int, bytes] = 0, b""

    def split(self, block: bytes) -> list[str]:
        """The lines of a block of whole lines, with U+FFFD in place of bad bytes."""
        try:
            text = block.decode()
        except UnicodeDecodeError:
            self._count(block)
            text = block.decode(errors="replace")
        if self.numbered:
            lines = _SENTENCES.findall(text if text.endswith("\n") else f"{text}\n")
        else:
            lines = text.removesuffix("\n").split("\n")
        self.lines += len(lines) - lines.count("")
        self.offset += len(block)
        return [line.rstrip("\r") for line in lines] if "\r" in text else lines

    def _count(self, block: bytes) -> None:
        offset, seen = self.offset, self.lines
        for line in block.split(b"\n"):
            seen += bool(line)
            try:
                line.decode()
            except UnicodeDecodeError as error:
                self.first_bad = self.first_bad if self.bad else (offset + error.start, line)
                self.bad += 1
                if seen >= JUDGED_FROM:
                    self.judge(seen)
            offset += len(line) + 1

    def judge(self, lines: int) -> None:
        """Raise TatarLLMError when too many of so many lines are not UTF-8; blank lines are not counted."""
        if self.bad * 100 > lines and (self.bad > 2 or self.bad * 10 > lines):
            raise _not_utf8(self.where, *self.first_bad)


def text_of(file: Readable, where: str | Path, numbered: bool, longest: int = 0) -> Iterator[list[str]]:
    text = Utf8Lines(where, numbered)
    for block in whole_lines(file, where, longest):
        yield text.split(block)
    text.judge(text.lines)


def whole_lines(file: Readable, where: str | Path = "", longest: int = 0) -> Iterator[bytes]:
    """A stream in blocks that end at a line end.

    A line beyond LONGEST_LINE is cut: its pieces come as blocks without a line end. With `longest` no line is cut, and
    one that is longer raises TatarLLMError.
    """
    held: list[bytes] = []
    size = 0  # of the line that `held` ends with
    for block in _stream(file, min(BLOCK, LONGEST_LINE)):
        held.append(block)
        first = block.find(b"\n")
        size += len(block) if first < 0 else first
        if size > (longest or LONGEST_LINE):
            if longest:
                raise TatarLLMError(f"{where} has a line of more than {longest >> 20} MiB: it does not look like text")
            *pieces, rest = pieces_of(b"".join(held), size)
            yield from pieces
            size -= sum(map(len, pieces))
            held = [rest]
        if first >= 0:
            whole = b"".join(held)
            end = whole.rindex(b"\n") + 1
            yield whole[:end]
            held = [whole[end:]]
            size = len(held[0])
    if size:
        yield b"".join(held)


def pieces_of(line: bytes, size: int) -> Iterator[bytes]:
    """The first `size` bytes cut into pieces of at most LONGEST_LINE, and the rest.

    A cut falls, best first, behind the last sentence or the last space in the last tenth of a piece, or between two
    letters.
    """
    start = 0
    while size - start > LONGEST_LINE:
        stop = start + LONGEST_LINE
        window = stop - LONGEST_LINE // 10
        found = _SENTENCE_END.match(line, window, stop) or _SPACE.match(line, window, stop)
        if found:
            stop = found.end()
        else:  # not inside a letter: its further bytes, at most three, are 0b10xxxxxx
            stop = next((at for at in range(stop, stop - 4, -1) if line[at] & 0xC0 != 0x80), stop)
        yield line[start:stop]
        start = stop
    yield line[start:]


def _stream(file: Readable, size: int) -> Iterator[bytes]:
    """A file in blocks of at most `size` bytes (but for the first), in UTF-8, without byte order mark."""
    head = file.read(3)
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):  # as Windows Notepad writes it
        decoder = codecs.getincrementaldecoder("utf-16")("replace")
        half = max(1, size // 2)  # two bytes may become three
        for block in chain([head], iter(partial(file.read, half), b"")):
            yield decoder.decode(block).encode()
        yield decoder.decode(b"", final=True).encode()
        return
    yield head.removeprefix(codecs.BOM_UTF8)
    yield from iter(partial(file.read, size), b"")


def bounded(lines: list[str]) -> list[str]:
    """The same, lines beyond LONGEST_LINE cut as `whole_lines` cuts them."""
    if sum(map(len, lines)) <= LONGEST_LINE // 4 or max(map(len, lines)) <= LONGEST_LINE // 4:  # 4 bytes a letter
        return lines
    raw = (line.encode("utf-8", "surrogatepass") for line in lines)
    pieces = chain.from_iterable(pieces_of(line, len(line)) for line in raw)
    return [piece.decode("utf-8", "surrogatepass") for piece in pieces]
