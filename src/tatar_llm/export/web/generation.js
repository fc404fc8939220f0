/** Continuing a prompt token by token, as the package's generation/engine.py does. */

import { Cache } from "./network.js";

/** Characters of a prompt that are looked at: far more than any context holds. */
const LONGEST_PROMPT = 20000;

/**
 * A text as a prompt: its ids, the id that ends the continuation, and whether it ended with a space. That space belongs to
 * the word that follows, so it is taken back and the first new token must begin with one (`heal`).
 */
export function readPrompt(tokenizer, text) {
  const stripped = text.replace(/ +$/, "");
  const heal = stripped !== "" && stripped !== text;
  const ids = [tokenizer.bos, ...tokenizer.encode((heal ? stripped : text).slice(-LONGEST_PROMPT))];
  return { ids, heal, end: tokenizer.eos };
}

/**
 * Yields {token, text} after a prompt until the model ends it: the token and what is certain of its text.
 *
 * When the context is full the older half is let go and the rest read again.
 *
 * @param {object} prompt {ids, heal, end}, from readPrompt or chatPrompt.
 * @param {object} settings length: most tokens; temperature: 0 always takes the likeliest; topK: 0 keeps all.
 */
export async function* continued(network, tokenizer, prompt, settings, random = Math.random) {
  const { context } = network.shape;
  let { heal } = prompt;
  let ids = prompt.ids.slice(-Math.max(1, context - 1));
  let allowed = heal ? tokenizer.bytes.map((bytes) => bytes.startsWith(" ")) : null;
  const decode = tokenizer.decoder();
  const shown = (piece) => {
    if (!heal || !piece) return piece;
    heal = false;
    return piece.slice(1);
  };
  if (settings.length < 1) return;
  let { logits, cache } = await network.read([ids], Cache.empty(network.shape));
  for (let made = 1; ; made++) {
    const token = chosen(allowed ? logits[0].map((value, id) => (allowed[id] ? value : -Infinity)) : logits[0], settings, random);
    allowed = null;
    if (token === prompt.end) break;
    ids.push(token);
    yield { token, text: shown(decode(token)) };
    if (made >= settings.length) break;
    if (cache.length + 1 > context) {
      ids = ids.slice(-Math.max(1, context >> 1));
      ({ logits, cache } = await network.read([ids], Cache.empty(network.shape)));
    } else {
      ({ logits, cache } = await network.read([[token]], cache));
    }
  }
  const rest = shown(decode(null));
  if (rest) yield { token: null, text: rest };
}

/** One id: temperature, then the `topK` likeliest, then chance. */
export function chosen(logits, { temperature, topK }, random) {
  const order = likeliest(logits, temperature === 0 ? 1 : topK || logits.length);
  if (temperature === 0) return order[0];
  const weights = order.map((id) => Math.exp((logits[id] - logits[order[0]]) / temperature));
  let left = random() * weights.reduce((sum, weight) => sum + weight, 0);
  for (let place = 0; place < order.length; place++) {
    left -= weights[place];
    if (left < 0) return order[place];
  }
  return order[0];
}

/** Places of the `count` greatest values, the greatest first, the earlier of equals. */
export function likeliest(values, count) {
  if (count >= values.length) return Array.from(values.keys()).sort((one, other) => values[other] - values[one] || one - other);
  const best = [];
  for (let place = 0; place < values.length; place++) {
    if (best.length === count && !(values[place] > values[best[count - 1]])) continue;
    let at = best.length;
    while (at && values[place] > values[best[at - 1]]) at--;
    best.splice(at, 0, place);
    if (best.length > count) best.pop();
  }
  return best;
}
