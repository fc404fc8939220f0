/** Everything that thinks: made from the parts of the page, used by the worker, by the self-test and in node. */

import { chatPrompt } from "./chat.js";
import { continued, readPrompt } from "./generation.js";
import { Network } from "./network.js";
import { Suggester } from "./suggest.js";
import { Tokenizer } from "./tokenizer.js";

/** The bytes of a part of the page: base64 of gzip. */
export async function unpacked(part) {
  const text = atob(part);
  const packed = new Uint8Array(text.length);
  for (let place = 0; place < text.length; place++) packed[place] = text.charCodeAt(place);
  // Not from a Blob: WebKit reads none in the worker of a page from a file
  const gzip = new DecompressionStream("gzip");
  const writer = gzip.writable.getWriter();
  const written = writer.write(packed).then(() => writer.close());
  const [content] = await Promise.all([new Response(gzip.readable).arrayBuffer(), written]);
  return new Uint8Array(content);
}

export async function unpackedJson(part) {
  return JSON.parse(new TextDecoder().decode(await unpacked(part)));
}

/**
 * @param {object} parts wasm, model, tokenizer, all packed, and shape (see Network).
 * @param {object} ort the module onnxruntime-web.
 */
export async function startEngine(parts, ort) {
  const [wasm, model] = await Promise.all([parts.wasm, parts.model].map(unpacked));
  ort.env.wasm.numThreads = 1; // threads need headers that no file has
  ort.env.wasm.wasmBinary = wasm.buffer;
  const tokenizer = new Tokenizer(await unpackedJson(parts.tokenizer));
  const network = await Network.load(ort, model, parts.shape);
  return { tokenizer, network, suggester: new Suggester(network, tokenizer) };
}

/**
 * Compares with what the package gave when it wrote the page.
 *
 * Where two tokens or words are as good as equal (`tolerance`, in log-probability) either may come first.
 *
 * @param {object} expected ids: [text, ids]; continuations: {text, tokens, margins, made}, greedy; suggestions: {text, words};
 *   chats, of a model that chats: {turns, ids, tokens, margins, made}; tolerance; length: tokens of a continuation.
 * @returns {{ids: number, continuations: number, suggestions: number, chats: number, problems: string[]}} how many agreed,
 *   and what did not.
 */
export async function selfTest({ tokenizer, network, suggester }, expected) {
  const result = { ids: 0, continuations: 0, suggestions: 0, chats: 0, problems: [] };
  const judge = (kind, text, problem) => {
    if (problem) result.problems.push(`${kind} of ${JSON.stringify(text)}: ${problem}`);
    else result[kind]++;
  };
  const unequal = (found, ids) => (String(found) === String(ids) ? "" : `${found} instead of ${ids}`);
  const continuesOtherwise = async (prompt, { tokens, margins, made }) => {
    const found = [];
    let shown = "";
    for await (const step of continued(network, tokenizer, prompt, { length: expected.length, temperature: 0, topK: 0 })) {
      if (step.token !== null) found.push(step.token);
      shown += step.text;
    }
    const parting = margins.findIndex((_, place) => found[place] !== tokens[place]);
    const differs = parting < 0 ? found.length !== tokens.length || shown !== made : margins[parting] > expected.tolerance;
    return differs ? `${JSON.stringify(shown)} instead of ${JSON.stringify(made)}` : "";
  };
  for (const [text, ids] of expected.ids) judge("ids", text, unequal(tokenizer.encode(text), ids));
  for (const { text, ...wanted } of expected.continuations)
    judge("continuations", text, await continuesOtherwise(readPrompt(tokenizer, text), wanted));
  for (const { turns, ids, ...wanted } of expected.chats ?? []) {
    const prompt = chatPrompt(tokenizer, turns, network.shape.context, expected.length);
    judge("chats", turns.at(-1).text, unequal(prompt.ids, ids) || (await continuesOtherwise(prompt, wanted)));
  }
  for (const { text, words } of expected.suggestions) {
    const found = (await suggester.suggest(text, words.length || 1)).words;
    const probability = new Map(found.map((one) => [one.word, one.probability]));
    const last = found.length === words.length && found.length ? found.at(-1).probability : 0;
    const missing = words.filter(([word, p]) => !(Math.abs(Math.log((probability.get(word) ?? last) / p)) <= expected.tolerance));
    const tell = (list) => list.map(([word, p]) => `${word} ${p.toFixed(3)}`).join(", ") || "nothing";
    const wrong = missing.length || (found.length && !words.length);
    judge("suggestions", text, wrong ? `${tell([...probability])} instead of ${tell(words)}` : "");
  }
  return result;
}
