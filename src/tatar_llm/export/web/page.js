/** The page: what is typed and pressed goes to the worker, what it answers is shown. */

(() => {
  "use strict";
  const get = (id) => document.getElementById(id);
  const about = JSON.parse(get("about").textContent);
  const words = JSON.parse(get("words").textContent);
  const buttons = [...get("suggestions").children];
  const field = get("text");
  const message = get("message");
  /** A pause this long in typing asks for suggestions. */
  const PAUSE = 60;
  const LONGEST_SHOWN = 120;
  /** So near to the end of the conversation, in pixels, it is followed. */
  const NEAR = 40;

  let language = "en";
  let state = ["loading", "busy"]; // key of the status line, and its class
  let worker = null;
  let ready = false; // the model is there
  let number = 0; // of the newest message to the worker
  let asked = 0; // of the newest question for suggestions
  let typed = ""; // letters of the word at the caret that the shown suggestions begin with
  let pause = 0;
  let writing = null; // {card, number} of the text or answer being written
  const turns = []; // {role, text} of the conversation, as the model is told them

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
    for (const one of document.querySelectorAll(".shift")) one.title = say("shift");
    message.placeholder = say("messageHint");
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

  function insert(field, from, to, text) {
    field.focus();
    field.setSelectionRange(from, to);
    // Deprecated, and the only way that leaves the browser's undo in order
    if (document.execCommand?.("insertText", false, text)) return;
    field.setRangeText(text, from, to, "end");
    field.dispatchEvent(new InputEvent("input", { bubbles: true }));
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
    insert(field, from, field.selectionEnd, button.textContent + space);
  }

  // -- what the model writes: one text at a time

  /** Where it writes: the buttons, what is said where nothing came, and what becomes of a new piece and of the whole. */
  const completion = {
    go: get("write"),
    stop: get("stop"),
    nothing: "ended",
    add: (text) => (get("new").textContent += text),
    end: () => get("new").textContent,
  };
  const chat = { go: get("send"), stop: get("stopAnswer"), nothing: "silent", add: grow, end: keep };

  function begin(card, order) {
    writing = { card, number: ++number };
    worker.postMessage({ ...order, number });
    settle();
    show("writing", "busy");
  }

  /** The writing ended. `key`, a word for the status line; without it one that fits. */
  function halt(key, kind) {
    const card = writing?.card;
    const focused = card && document.activeElement === card.stop;
    writing = null;
    const made = card?.end(key);
    settle();
    if (focused) card.go.focus();
    show(key ?? (made ? "written" : card.nothing), kind);
  }

  function settle() {
    for (const card of [completion, chat]) {
      const own = writing?.card === card;
      card.go.hidden = own;
      card.stop.hidden = !own;
      card.go.disabled = !ready || writing !== null;
    }
    const busy = writing?.card === completion;
    get("take").hidden = busy || !get("new").textContent;
    get("made").setAttribute("aria-live", busy ? "off" : "polite");
    const silent = !get("turns").children.length;
    get("silence").hidden = !silent;
    get("restart").hidden = silent;
  }

  const settingsOf = (card) => Object.fromEntries([...get(card).querySelectorAll("input")].map((one) => [one.name, Number(one.value)]));

  function stop() {
    worker.postMessage({ kind: "stop" });
    halt("stopped");
  }

  // -- the continuation

  function write() {
    const text = field.value;
    get("given").textContent = text.length > LONGEST_SHOWN ? `…${text.slice(-LONGEST_SHOWN)}` : text;
    get("new").textContent = "";
    begin(completion, { kind: "write", text, settings: settingsOf("completion") });
    get("stop").focus();
  }

  // -- the conversation

  /** A turn as it is shown. */
  function bubble(role, text) {
    const made = get(role).content.firstElementChild.cloneNode(true);
    const [label, said] = made.children;
    label.textContent = say(label.dataset.text);
    said.textContent = text;
    said.lang = about.language;
    return made;
  }

  function send() {
    const text = message.value.trim();
    if (!text || !ready || writing) return;
    insert(message, 0, message.value.length, "");
    turns.push({ role: "user", text });
    get("turns").append(bubble("user", text));
    // Outside of what a screen reader follows until it is whole
    get("talk").append(bubble("assistant", ""));
    begin(chat, { kind: "answer", turns, settings: settingsOf("chat") });
    get("talk").scrollTop = get("talk").scrollHeight;
  }

  function grow(text) {
    const { scrollHeight, scrollTop, clientHeight } = get("talk");
    const said = get("talk").lastElementChild.lastElementChild;
    said.textContent = (said.textContent + text).trimStart();
    if (scrollHeight - scrollTop - clientHeight < NEAR) get("talk").scrollTop = get("talk").scrollHeight;
  }

  /** What was answered belongs to the conversation; a question without an answer is taken back. */
  function keep(key = "silent") {
    const made = get("talk").lastElementChild;
    const said = made.lastElementChild;
    const text = said.textContent.trim();
    said.textContent = text || say(key);
    if (text) {
      turns.push({ role: "assistant", text });
    } else {
      turns.pop();
      said.dataset.text = key;
      said.lang = "";
    }
    get("turns").append(made);
    return text;
  }

  function restart() {
    if (writing?.card === chat) stop();
    turns.length = 0;
    get("turns").replaceChildren();
    settle();
    if (!writing) show("ready");
    message.focus();
  }

  // -- the worker

  const answers = {
    ready() {
      ready = true;
      settle();
      show("ready");
      ask();
      if (location.hash === "#selftest") test();
    },
    suggestions(found) {
      if (found.number === asked) offer(found);
    },
    text(piece) {
      if (piece.number === writing?.number) writing.card.add(piece.text);
    },
    written(piece) {
      if (piece.number === writing?.number) halt();
    },
    tested({ result }) {
      const agreed = result.ids + result.continuations + result.suggestions + result.chats;
      const bad = result.problems.length;
      get("result").textContent = [bad ? say("problems", bad) : say("passed", agreed), ...result.problems].join("\n");
      console.log(`selftest: ${JSON.stringify(result)}`);
    },
    failed({ reason }) {
      fail(reason);
    },
  };

  function fail(reason) {
    console.error(reason);
    if (location.hash === "#selftest") console.log(`selftest: ${JSON.stringify({ problems: [String(reason)] })}`);
    halt(ready ? "broken" : "failed", "failed");
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

  for (const row of document.querySelectorAll(".letters")) {
    const [shift, filled] = [row.querySelector(".shift"), get(row.dataset.field)];
    const press = (pressed) => {
      shift.setAttribute("aria-pressed", String(pressed));
      for (const one of row.querySelectorAll("button:not(.shift)"))
        one.textContent = pressed ? one.textContent.toUpperCase() : one.textContent.toLowerCase();
    };
    for (const letter of about.keyboard) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = letter;
      button.lang = about.language;
      button.onclick = (event) => {
        const upper = event.shiftKey || shift.getAttribute("aria-pressed") === "true";
        press(false);
        insert(filled, filled.selectionStart, filled.selectionEnd, upper ? letter.toUpperCase() : letter);
      };
      row.append(button);
    }
    shift.onclick = () => press(shift.getAttribute("aria-pressed") !== "true");
    row.hidden = !about.keyboard;
  }
  // The field keeps its caret, and a phone its keyboard
  for (const row of document.querySelectorAll(".letters, .suggestions")) row.onpointerdown = (event) => event.preventDefault();
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
  get("stop").onclick = get("stopAnswer").onclick = stop;
  get("take").onclick = () => {
    const text = get("new").textContent;
    get("given").textContent = get("new").textContent = "";
    settle();
    insert(field, field.value.length, field.value.length, text);
  };
  get("send").onclick = send;
  get("restart").onclick = restart;
  message.onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
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

  get("chat").hidden = !about.chat;
  if (about.chat) get("lead").dataset.text = "chatLead";
  field.lang = message.lang = get("made").lang = get("title").lang = about.language;
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
