/** Runs a page's self-test in node: `node check.js FOLDER` prints one JSON object. FOLDER is written to. */

import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [, , page, folder] = process.argv;
const html = await readFile(page, "utf-8");

/** The text of the page's <script id="...">. */
function part(id) {
  const tag = html.indexOf(`id="${id}">`);
  const start = html.indexOf(">", tag) + 1;
  return html.slice(start, html.indexOf("</script>", start)).trim();
}

const file = join(folder, "engine.mjs");
await writeFile(file, `${part("runtime")}\n${part("engine")}\nexport { onnxruntime, startEngine, selfTest, unpackedJson };`);
const { onnxruntime, startEngine, selfTest, unpackedJson } = await import(pathToFileURL(file).href);
const packed = ["wasm", "model", "tokenizer"].map((id) => [id, part(id)]);
const engine = await startEngine({ ...Object.fromEntries(packed), shape: JSON.parse(part("about")).shape }, await onnxruntime);
process.stdout.write(JSON.stringify(await selfTest(engine, await unpackedJson(part("expected")))));
