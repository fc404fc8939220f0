/**
 * Finishing the word: the likeliest whole words for a text that may end inside one, as the package's
 * generation/suggest.py finds them: the word is taken back to where its piece of text starts, and a beam search over
 * tokens keeps only what begins as typed.
 */

import { likeliest } from "./generation.js";
import { Cache, logSoftmax, logSumExp } from "./network.js";
import { bytesOf, textOf, wellFormed } from "./tokenizer.js";

/** Beginnings of words that are followed at a time; most tokens of a word; tokens before the word that are read at most. */
const WIDTH = 8;
const ROUNDS = 10;
const CONTEXT = 96;
/** Characters that are encoded at most; half of them go at a time. */
const LONGEST_TEXT = 4000;
const LONGEST_WORD = 400;
const LETTER = "а";

export class Suggester {
  constructor(network, tokenizer) {
    Object.assign(this, { network, tokenizer });
    const { context } = network.shape;
    this.most = Math.min(CONTEXT, Math.max(1, context - ROUNDS));
    this.rounds = Math.min(ROUNDS, context - this.most);
    this.cache = Cache.empty(network.shape);
    this.read = [];
    this.next = new Float64Array(0); // log-probabilities after what was read
    const { bytes } = tokenizer;
    const ids = Array.from(bytes.keys());
    this.inside = ids.filter((id) => this.#letters(bytes[id]));
    this.ends = ids.filter((id) => id === tokenizer.eos || this.#endsWord(bytes[id]));
    this.order = ids.filter((id) => bytes[id]).sort((one, other) => (bytes[one] < bytes[other] ? -1 : 1));
    this.idOf = new Map(this.order.map((id) => [bytes[id], id]));
    this.fitting = new Map();
  }

  /**
   * The `n` likeliest words, best first; fewer, or none, where nothing begins as typed.
   *
   * @param {() => Promise<boolean>} stale whether the answer is not wanted any more: asked between the rounds.
   * @returns {{typed: string, words: {word: string, probability: number}[]} | null} typed: the letters of the word that
   *   are there; null when stale.
   */
  async suggest(text, n = 3, stale = async () => false) {
    const [before, typed] = this.#split(wellFormed(text));
    await this.#readText(before);
    let total = -Infinity; // log-probability that the text goes on as typed
    const found = new Map();
    let [beginnings, covered] = this.#grow({ logp: 0, tokens: [], text: "", missing: bytesOf(typed) }, this.next);
    let cache = this.cache;
    for (let round = 0; round < this.rounds; round++) {
      if (await stale()) return null;
      total = logSumExp([total, covered]);
      const rows = this.#keep(beginnings, found, n);
      if (!rows.length) break;
      const read = await this.network.read(rows.map((one) => [one.tokens.at(-1)]), cache.part(rows.map((one) => one.parent)));
      cache = read.cache;
      [beginnings, covered] = [[], -Infinity];
      rows.forEach((row, place) => {
        const logp = logSoftmax(read.logits[place]);
        const word = row.missing ? "" : this.#word(row.text);
        if (word) {
          const end = row.logp + logSumExp(this.ends.map((id) => logp[id]));
          found.set(word, logSumExp([found.get(word) ?? -Infinity, end]));
        }
        const [grown, more] = this.#grow(row, logp, place);
        beginnings.push(...grown);
        covered = logSumExp([covered, more]);
      });
    }
    const words = [...found]
      .sort((one, other) => other[1] - one[1])
      .slice(0, n)
      .map(([word, logp]) => ({ word, probability: Math.min(1, Math.exp(logp - total)) }));
    return { typed: this.tokenizer.isAlpha(typed) ? typed : typed.replace(/^./su, ""), words };
  }

  /** The text before the word, and what of the word (with the space or sign that its token begins with) is there. */
  #split(text) {
    const tail = Array.from(text.slice(-2 * LONGEST_WORD)).slice(-LONGEST_WORD);
    const inside = tail.length > 0 && this.tokenizer.isAlpha(tail.at(-1));
    const last = this.tokenizer.pieces(tail.join("") + (inside ? "" : LETTER)).at(-1);
    const typed = inside ? last : last.slice(0, -LETTER.length);
    return [text.slice(0, text.length - typed.length), typed];
  }

  /** Brings the cache to this text, keeping the beginning that it shares with what was read before. */
  async #readText(before) {
    if (before.length > LONGEST_TEXT) {
      const letters = Array.from(before);
      const half = LONGEST_TEXT / 2;
      before = letters.slice(Math.max(0, Math.ceil((letters.length - LONGEST_TEXT) / half)) * half).join("");
    }
    let ids = [this.tokenizer.bos, ...this.tokenizer.encode(before)];
    if (ids.length > this.most) {
      // Whole halves go, so that the beginning stays the same for many key presses
      const half = Math.max(1, this.most >> 1);
      ids = ids.slice(Math.ceil((ids.length - this.most) / half) * half);
    }
    let shared = 0;
    while (shared < Math.min(ids.length, this.read.length) && ids[shared] === this.read[shared]) shared++;
    if (shared === ids.length && shared === this.read.length) return;
    shared = Math.min(shared, ids.length - 1); // the last one again: its answer is wanted
    const { logits, cache } = await this.network.read([ids.slice(shared)], this.cache.part([0], shared));
    [this.read, this.cache, this.next] = [ids, cache, logSoftmax(logits[0])];
  }

  /**
   * A beginning with each likely next token; and the log-probability of all that goes on as typed from here. The second
   * counts tokens that no word can hold too, and only those that cover the rest of what was typed.
   */
  #grow(beginning, logp, parent = 0) {
    const { missing } = beginning;
    let [ids, covered] = [this.inside, -Infinity];
    if (missing || !beginning.tokens.length) {
      const fitting = this.#fitting(missing);
      ids = fitting.words;
      covered = missing ? logSumExp(fitting.covering.map((id) => logp[id])) + beginning.logp : 0;
    }
    const best = likeliest(ids.map((id) => logp[id]), WIDTH).map((place) => ids[place]);
    const grown = best.map((id) => {
      const bytes = this.tokenizer.bytes[id];
      return {
        logp: beginning.logp + logp[id],
        tokens: [...beginning.tokens, id],
        text: beginning.text + bytes,
        missing: missing.slice(bytes.length),
        parent,
      };
    });
    return [grown, covered];
  }

  /** Ids of all tokens that cover what is missing; and of those among them, or shorter ones, that a word may hold. */
  #fitting(missing) {
    let found = this.fitting.get(missing);
    if (!found) {
      if (this.fitting.size > 1000) this.fitting.clear();
      const { bytes } = this.tokenizer;
      const covering = this.order.filter((id) => bytes[id].startsWith(missing));
      const words = covering.filter((id) => bytes[id] === missing || this.#letters(bytes[id].slice(missing.length)));
      for (let end = 1; end < missing.length; end++) {
        const shorter = this.idOf.get(missing.slice(0, end));
        if (shorter !== undefined) words.push(shorter);
      }
      found = { covering, words };
      this.fitting.set(missing, found);
    }
    return found;
  }

  /** The likeliest beginnings that can still beat the n-th word found. */
  #keep(beginnings, found, n) {
    const worst = found.size >= n ? [...found.values()].sort((one, other) => other - one)[n - 1] : -Infinity;
    return beginnings
      .filter((one) => one.logp > worst)
      .sort((one, other) => other.logp - one.logp)
      .slice(0, WIDTH);
  }

  /** Whether these bytes are whole letters and nothing else. */
  #letters(bytes) {
    return this.tokenizer.isAlpha(textOf(bytes) ?? "");
  }

  /** Whether a token of these bytes ends the word before it: it begins with something that is no letter. */
  #endsWord(bytes) {
    for (let size = 1; bytes && size < 5; size++) {
      const first = textOf(bytes.slice(0, size));
      if (first !== null) return !this.tokenizer.isAlpha(first);
    }
    return false;
  }

  /** The word without the space or sign that its first token begins with; empty where these bytes are none. */
  #word(bytes) {
    const text = textOf(bytes) ?? "";
    const word = this.tokenizer.isAlpha(text.match(/^./su)?.[0] ?? "") ? text : text.replace(/^./su, "");
    return this.tokenizer.isAlpha(word) ? word : "";
  }
}
