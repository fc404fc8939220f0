/** The page: what is typed and pressed goes to the worker, what it answers is shown. */

(() => {
  "use strict";
  const get = (id) => document.getElementById(id);
  const about = JSON.parse(get("about").textContent);
  const words = JSON.parse(get("words").textContent);
  const buttons = [...get("suggestions").children];
  const field = get("text");
  /** A pause this long in typing asks for suggestions. */
  const PAUSE = 60;
  const LONGEST_SHOWN = 120;

  let language = "en";
  let state = ["loading", "busy"]; // key of the status line, and its class
  let worker = null;
  let number = 0; // of the newest message to the worker
  let asked = 0; // of the newest question for suggestions
  let typed = ""; // letters of the word at the caret that the shown suggestions begin with
  let pause = 0;
  let writing = 0; // number of the text being continued

  // -- the languages of the page

  const say = (key, n) => words[language][key].replace("{n}", n);
  // Browsers write English numbers in languages that they do not know; Tatar writes them as Russian does
  const amount = (value, digits) => value.toLocaleString(language === "tt" ? "ru" : language, { maximumFractionDigits: digits });

  function show(key, kind = "") {
    state = [key, kind];
    get("status").textContent = say(key);
    get("status").className = `status ${kind}`;
  }

  function choose(wanted) {
    language = wanted;
    document.documentElement.lang = language;
    for (const one of document.querySelectorAll("[data-text]")) one.textContent = say(one.dataset.text);
    for (const one of document.querySelectorAll("[data-label]")) one.setAttribute("aria-label", say(one.dataset.label));
    for (const one of document.querySelectorAll("[data-language]"))
      one.setAttribute("aria-pressed", String(one.dataset.language === language));
    get("shift").title = say("shift");
    tellFacts();
    show(...state);
  }

  function tellFacts() {
    const corpus = about.corpus || say("unknown");
    const rows = [
      ["model", about.model],
      ["parameters", say("millions", amount(about.parameters / 1e6, 1))],
      ["corpus", about.generated ? say("generated", amount(about.generated / 1e6, 1)).replace("{corpus}", () => corpus) : corpus],
    ];
    if (about.bits) rows.push(["quality", say("bits", amount(about.bits, 3))]);
    get("facts").replaceChildren(
      ...rows.flatMap(([key, text]) => {
        const [name, value] = [document.createElement("dt"), document.createElement("dd")];
        name.textContent = say(key);
        value.textContent = text;
        return [name, value];
      }),
    );
  }

  function remembered() {
    try {
      return localStorage.getItem("language");
    } catch {
      return null; // a page from a file may have no storage
    }
  }

  function remember(value) {
    try {
      localStorage.setItem("language", value);
    } catch {
      // then it is asked again
    }
  }

  // -- the text

  function insert(from, to, text) {
    field.focus();
    field.setSelectionRange(from, to);
    // Deprecated, and the only way that leaves the browser's undo in order
    if (!document.execCommand?.("insertText", false, text)) {
      field.setRangeText(text, from, to, "end");
      ask();
    }
  }

  function ask() {
    clearTimeout(pause);
    pause = setTimeout(() => {
      asked = ++number;
      worker?.postMessage({ kind: "suggest", number: asked, text: field.value.slice(0, field.selectionStart) });
    }, PAUSE);
  }

  function offer(found) {
    typed = found.typed;
    buttons.forEach((button, place) => {
      const one = found.words[place];
      button.disabled = !one;
      button.textContent = one ? one.word : "";
    });
  }

  function take(place) {
    const button = buttons[place];
    if (button.disabled) return;
    const caret = field.selectionStart;
    const from = caret - typed.length;
    if (field.value.slice(from, caret) !== typed) return; // typed on since: better ones are on their way
    const space = /^[\s.,!?;:»")]/.test(field.value.slice(field.selectionEnd)) ? "" : " ";
    insert(from, field.selectionEnd, button.textContent + space);
  }

  // -- the continuation

  function write() {
    const text = field.value;
    const settings = { length: Number(get("length").value), temperature: Number(get("temperature").value), topK: Number(get("topK").value) };
    get("given").textContent = text.length > LONGEST_SHOWN ? `…${text.slice(-LONGEST_SHOWN)}` : text;
    get("new").textContent = "";
    writing = ++number;
    worker.postMessage({ kind: "write", number: writing, text, settings });
    settle(true);
    show("writing", "busy");
    get("stop").focus();
  }

  function settle(busy) {
    const focused = document.activeElement === get("stop");
    get("write").hidden = busy;
    get("stop").hidden = !busy;
    get("take").hidden = busy || !get("new").textContent;
    get("made").setAttribute("aria-live", busy ? "off" : "polite");
    if (!busy && focused) get("write").focus();
  }

  function halt(key) {
    writing = 0;
    settle(false);
    show(key);
  }

  // -- the worker

  const answers = {
    ready() {
      get("write").disabled = false;
      show("ready");
      ask();
      if (location.hash === "#selftest") test();
    },
    suggestions(found) {
      if (found.number === asked) offer(found);
    },
    text(piece) {
      if (piece.number === writing) get("new").textContent += piece.text;
    },
    written(piece) {
      if (piece.number === writing) halt(get("new").textContent ? "written" : "ended");
    },
    tested({ result }) {
      const agreed = result.ids + result.continuations + result.suggestions;
      const bad = result.problems.length;
      get("result").textContent = [bad ? say("problems", bad) : say("passed", agreed), ...result.problems].join("\n");
      console.log(`selftest: ${JSON.stringify(result)}`);
    },
    failed({ reason }) {
      fail(reason, get("write").disabled ? "failed" : "broken");
    },
  };

  function fail(reason, key = "failed") {
    console.error(reason);
    if (location.hash === "#selftest") console.log(`selftest: ${JSON.stringify({ problems: [String(reason)] })}`);
    settle(false);
    show(key, "failed");
  }

  function test() {
    get("test").hidden = false;
    get("result").textContent = say("testing");
    worker.postMessage({ kind: "test", expected: get("expected").textContent });
  }

  function start() {
    const source = new Blob([get("runtime").textContent, get("engine").textContent], { type: "text/javascript" });
    const made = new Worker(URL.createObjectURL(source));
    made.onmessage = ({ data }) => answers[data.kind](data);
    made.onerror = (event) => fail(event.message || "the worker did not start");
    const parts = { shape: about.shape };
    for (const id of ["wasm", "model", "tokenizer"]) {
      parts[id] = get(id).textContent;
      get(id).remove(); // the worker has it now
    }
    worker = made;
    worker.postMessage({ kind: "start", parts });
  }

  // -- the beginning

  for (const letter of about.keyboard) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = letter;
    button.lang = about.language;
    button.onclick = (event) => {
      const upper = event.shiftKey || get("shift").getAttribute("aria-pressed") === "true";
      press(false);
      insert(field.selectionStart, field.selectionEnd, upper ? letter.toUpperCase() : letter);
    };
    get("letters").append(button);
  }
  get("letters").hidden = !about.keyboard;

  function press(pressed) {
    get("shift").setAttribute("aria-pressed", String(pressed));
    for (const one of get("letters").querySelectorAll("button:not(#shift)"))
      one.textContent = pressed ? one.textContent.toUpperCase() : one.textContent.toLowerCase();
  }

  get("shift").onclick = () => press(get("shift").getAttribute("aria-pressed") !== "true");
  // The field keeps its caret, and a phone its keyboard
  for (const row of [get("letters"), get("suggestions")]) row.onpointerdown = (event) => event.preventDefault();
  buttons.forEach((button, place) => (button.onclick = () => take(place)));
  field.oninput = ask;
  field.onclick = ask;
  field.onkeyup = (event) => {
    if (/^(Arrow|Home|End|Page)/.test(event.key)) ask();
  };
  field.onkeydown = (event) => {
    const digit = /^Digit([123])$/.exec(event.code);
    if (!digit || !event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    take(digit[1] - 1);
  };
  get("write").onclick = write;
  get("stop").onclick = () => {
    worker.postMessage({ kind: "stop" });
    halt("stopped");
  };
  get("take").onclick = () => {
    const text = get("new").textContent;
    get("given").textContent = get("new").textContent = "";
    settle(false);
    insert(field.value.length, field.value.length, text);
  };
  for (const setting of document.querySelectorAll(".setting")) {
    const [input, output] = [setting.querySelector("input"), setting.querySelector("output")];
    input.oninput = () => (output.textContent = input.value);
    input.oninput();
  }
  for (const button of document.querySelectorAll("[data-language]"))
    button.onclick = () => {
      choose(button.dataset.language);
      remember(language);
    };

  field.lang = get("made").lang = get("title").lang = about.language;
  field.placeholder = `${about.prompt}…`;
  get("fallback").hidden = !about.fallback;
  get("fallback").textContent = about.fallback;
  const wanted = [remembered(), about.interface, ...(navigator.languages ?? []).map((one) => one.slice(0, 2))];
  choose(wanted.find((one) => one in words) ?? "en");
  try {
    if (typeof DecompressionStream === "undefined") throw new Error("no DecompressionStream");
    start();
  } catch (error) {
    fail(error?.message ?? error);
  }
})();
