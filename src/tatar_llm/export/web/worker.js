/** The worker: answers the page's messages one piece of work at a time, suggestions before the next token of a text. */

import { chatPrompt } from "./chat.js";
import { selfTest, startEngine, unpackedJson } from "./engine.js";
import { continued, readPrompt } from "./generation.js";

/** Lets the messages in that came meanwhile; setTimeout would wait some milliseconds each time. */
function breath() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/**
 * @param {object} scope the worker.
 * @param {Promise<object>} runtime the module onnxruntime-web.
 */
export function serve(scope, runtime) {
  let engine = null;
  let asked = null; // the newest text to suggest for
  let writing = null; // {number, steps} of the text or answer being written
  let expected = null; // what the self-test compares with
  let busy = false;

  async function suggest() {
    const { number, text } = asked;
    asked = null;
    const answer = await engine.suggester.suggest(text, 3, async () => {
      await breath();
      return asked !== null;
    });
    if (answer) scope.postMessage({ kind: "suggestions", number, ...answer });
  }

  async function begin(number, prompt, settings) {
    writing = { number, steps: continued(engine.network, engine.tokenizer, prompt, settings) };
    await work();
  }

  async function write() {
    const { number, steps } = writing;
    const { done, value } = await steps.next();
    if (writing?.number !== number) return; // stopped, or another one asked for
    if (done) writing = null;
    scope.postMessage(done ? { kind: "written", number } : { kind: "text", number, text: value.text });
  }

  async function test() {
    const result = await selfTest(engine, await unpackedJson(expected));
    expected = null;
    scope.postMessage({ kind: "tested", result });
  }

  async function work() {
    if (busy || !engine) return;
    busy = true;
    try {
      while (asked || writing || expected) {
        await (asked ? suggest() : writing ? write() : test());
        await breath();
      }
    } finally {
      busy = false;
    }
  }

  const answers = {
    async start({ parts }) {
      engine = await startEngine(parts, await runtime);
      scope.postMessage({ kind: "ready" });
      await work();
    },
    async suggest(message) {
      asked = message;
      await work();
    },
    async write({ number, text, settings }) {
      await begin(number, readPrompt(engine.tokenizer, text), settings);
    },
    async answer({ number, turns, settings }) {
      await begin(number, chatPrompt(engine.tokenizer, turns, engine.network.shape.context, settings.length), settings);
    },
    async stop() {
      writing = null;
    },
    async test(message) {
      expected = message.expected;
      await work();
    },
  };
  scope.onmessage = async ({ data }) => {
    try {
      await answers[data.kind](data);
    } catch (error) {
      asked = writing = expected = null;
      scope.postMessage({ kind: "failed", reason: String(error?.message ?? error) });
    }
  };
}

if (typeof WorkerGlobalScope !== "undefined" && self instanceof WorkerGlobalScope) serve(self, onnxruntime);
