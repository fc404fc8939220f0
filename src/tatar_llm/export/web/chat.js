/** A conversation as the package's chat/template.py has it: its turns become the ids after which the model answers. */

// What Python's str.strip takes away: trim() knows U+FEFF besides, but neither U+001C to U+001F nor U+0085
const BLANK = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

/**
 * The prompt of a conversation, with room for an answer of `length` tokens, at most half of the context.
 *
 * @param {{role: string, text: string}[]} turns of user and assistant; the last one is the user's.
 */
export function chatPrompt(tokenizer, turns, context, length) {
  const ids = promptIds(tokenizer, turns, context - Math.min(length, context >> 1));
  return { ids, heal: false, end: tokenizer.marks.end };
}

/**
 * At most `room` ids. Oldest turns leave first, always to the next one of the user; a last turn that is too long by itself
 * keeps its end.
 */
export function promptIds(tokenizer, turns, room) {
  const { bos, marks } = tokenizer;
  const parts = turns.map(({ role, text }) => [marks[role], ...tokenizer.encode(withoutBlanks(text)), marks.end]);
  let size = parts.reduce((sum, part) => sum + part.length, 2); // 2: <bos>, and the mark after which the model speaks
  let first = 0;
  while (size > room && first < parts.length) {
    do size -= parts[first++].length;
    while (first < parts.length && turns[first].role !== "user");
  }
  if (first < parts.length) return [bos, ...parts.slice(first).flat(), marks.assistant];
  const [mark, ...said] = parts.at(-1);
  return [bos, mark, ...said.slice(-Math.max(1, room - 3)), marks.assistant];
}

function withoutBlanks(text) {
  let [start, end] = [0, text.length];
  while (start < end && BLANK.test(text[start])) start++;
  while (end > start && BLANK.test(text[end - 1])) end--;
  return text.slice(start, end);
}
