/**
 * The tokenizer: byte-level BPE (Radford et al. 2019) whose rule for pieces is Llama 3's regular expression, and which
 * looks a whole piece up before it merges. Gives the same ids as the package's tokenizer.json.
 *
 * Bytes are held as strings of characters 0 to 255: such strings compare, cut and join as the bytes do.
 */

// How a byte-level vocabulary writes bytes as letters (GPT-2): printable Latin-1 as itself, the others from U+0100 on.
const LETTER_OF_BYTE = [];
const BYTE_OF_LETTER = new Map();
{
  let others = 0;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte < 0x7f) || (byte >= 0xa1 && byte < 0xad) || byte >= 0xae;
    LETTER_OF_BYTE.push(String.fromCharCode(printable ? byte : 256 + others++));
    BYTE_OF_LETTER.set(LETTER_OF_BYTE[byte], byte);
  }
}

const ENCODER = new TextEncoder();
const LARGEST_MEMORY = 20000;

/** The UTF-8 bytes of a text. */
export function bytesOf(text) {
  let bytes = "";
  for (const byte of ENCODER.encode(text)) bytes += String.fromCharCode(byte);
  return bytes;
}

/** The text of UTF-8 bytes, or null where they are none. */
export function textOf(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(rawBytes(bytes));
  } catch {
    return null;
  }
}

/** Bytes as a typed array. */
export function rawBytes(bytes) {
  return Uint8Array.from(bytes, (one) => one.charCodeAt(0));
}

/** What UTF-8 cannot hold, half a surrogate pair, becomes a question mark, as in the package. */
export function wellFormed(text) {
  return text.replace(/\p{Surrogate}/gu, "?");
}

export class Tokenizer {
  /**
   * @param {object} data tokens: the vocabulary by id, in byte-level letters; merges: "left right", the earliest first;
   *   special: ids that stand for no text; bos, eos: ids; marks: of a model that chats, the ids that begin a turn of user
   *   and assistant, and end one; letters, numbers, spaces: "41-5a aa ...", Unicode ranges as the package's library has
   *   them, since browsers know Unicode in different versions.
   */
  constructor(data) {
    this.bos = data.bos;
    this.eos = data.eos;
    this.marks = data.marks;
    const special = new Set(data.special);
    /** The bytes behind each id; none behind a special one. */
    this.bytes = data.tokens.map((token, id) =>
      special.has(id) ? "" : Array.from(token, (one) => String.fromCharCode(BYTE_OF_LETTER.get(one))).join(""),
    );
    this.idOf = new Map(data.tokens.map((token, id) => [token, id]));
    this.rankOf = new Map(data.merges.map((merge, rank) => [merge, rank]));
    const [letter, number, space] = [data.letters, data.numbers, data.spaces].map(characterClass);
    this.pattern = new RegExp(
      `'(?:[sS\\u017f]|[tT]|[rR][eE]|[vV][eE]|[mM]|[lL][lL]|[dD])|[^\\r\\n${letter}${number}]?[${letter}]+|[${number}]{1,3}` +
        `| ?[^${space}${letter}${number}]+[\\r\\n]*|[${space}]*[\\r\\n]+|[${space}]+(?![^${space}])|[${space}]+`,
      "gu",
    );
    this.letters = new RegExp(`^[${letter}]+$`, "u");
    this.remembered = new Map();
  }

  /** Whether a text is letters and nothing else, and at least one. */
  isAlpha(text) {
    return this.letters.test(text);
  }

  /** The pieces into which a text is cut; no token goes beyond one. */
  pieces(text) {
    return text.match(this.pattern) ?? [];
  }

  /** Ids of a text alone, without <bos> or <eos>; "<eos>" inside it is ordinary text. */
  encode(text) {
    const ids = [];
    for (const piece of this.pieces(wellFormed(text))) {
      let found = this.remembered.get(piece);
      if (!found) {
        if (this.remembered.size >= LARGEST_MEMORY) this.remembered.clear();
        found = this.#encodePiece(piece);
        this.remembered.set(piece, found);
      }
      for (const id of found) ids.push(id);
    }
    return ids;
  }

  /** A function that takes one id at a time and returns the text that is complete by then; null returns the rest. */
  decoder() {
    const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
    return (id) => (id === null ? decoder.decode() : decoder.decode(rawBytes(this.bytes[id] ?? ""), { stream: true }));
  }

  #encodePiece(piece) {
    const letters = Array.from(bytesOf(piece), (one) => LETTER_OF_BYTE[one.charCodeAt(0)]);
    const whole = this.idOf.get(letters.join(""));
    return whole !== undefined ? [whole] : this.#merged(letters).map((token) => this.idOf.get(token));
  }

  /** Joins the pair with the earliest merge, the leftmost of equals, until there is none. */
  #merged(parts) {
    const next = parts.map((_, place) => place + 1);
    const before = parts.map((_, place) => place - 1);
    const waiting = new Heap();
    const offer = (left) => {
      const right = left < 0 ? parts.length : next[left];
      const rank = right < parts.length ? this.rankOf.get(`${parts[left]} ${parts[right]}`) : undefined;
      if (rank !== undefined) waiting.push({ rank, left, text: parts[left] + parts[right] });
    };
    for (let place = 0; place + 1 < parts.length; place++) offer(place);
    for (let pair = waiting.pop(); pair; pair = waiting.pop()) {
      const { left, text } = pair;
      const right = next[left];
      // Joined with another one since
      if (parts[left] === null || right >= parts.length || parts[left] + parts[right] !== text) continue;
      if (this.rankOf.get(`${parts[left]} ${parts[right]}`) !== pair.rank) continue;
      parts[left] = text;
      parts[right] = null;
      next[left] = next[right];
      if (next[left] < parts.length) before[next[left]] = left;
      offer(before[left]);
      offer(left);
    }
    return parts.filter((part) => part !== null);
  }
}

/** The smallest rank first, the leftmost of equals. */
class Heap {
  items = [];

  push(item) {
    const { items } = this;
    let place = items.push(item) - 1;
    while (place) {
      const parent = (place - 1) >> 1;
      if (!comesFirst(item, items[parent])) break;
      items[place] = items[parent];
      place = parent;
    }
    items[place] = item;
  }

  pop() {
    const { items } = this;
    const first = items[0];
    const last = items.pop();
    if (!items.length) return first;
    let place = 0;
    for (;;) {
      let child = 2 * place + 1;
      if (child >= items.length) break;
      if (child + 1 < items.length && comesFirst(items[child + 1], items[child])) child++;
      if (!comesFirst(items[child], last)) break;
      items[place] = items[child];
      place = child;
    }
    items[place] = last;
    return first;
  }
}

function comesFirst(one, other) {
  return one.rank < other.rank || (one.rank === other.rank && one.left < other.left);
}

/** "41-5a aa" as the inside of a regular expression's [...]. */
function characterClass(ranges) {
  return ranges.replace(/([0-9a-f]+)/g, "\\u{$1}").replaceAll(" ", "");
}
