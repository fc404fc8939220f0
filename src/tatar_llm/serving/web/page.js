/** What the page does in the browser by itself: letters, words and examples go into the fields, the language is remembered. */

window.tatar = (() => {
  "use strict";
  const STYLED = {{styled}};

  /** The field that a button belongs to. */
  const fieldOf = (button) => button.closest(".board")?.querySelector("textarea");
  /** The completion's field, for what stands beside it. */
  const first = () => document.querySelector(".board textarea");

  function insert(field, from, to, text) {
    field.focus();
    field.setSelectionRange(from, to);
    // Deprecated, and the only way that leaves the browser's undo in order
    if (document.execCommand?.("insertText", false, text)) return;
    field.setRangeText(text, from, to, "end");
    field.dispatchEvent(new InputEvent("input", { bubbles: true }));
  }

  /** The text up to the caret, for which words are suggested. */
  function before() {
    const field = document.querySelector("#typing textarea");
    return field.value.slice(0, field.selectionStart);
  }

  /** Where words are suggested, ask for them. */
  function ask(field) {
    if (field.matches?.("#typing textarea")) document.querySelector("#ask").click();
  }

  const presses = {
    letter(button, event) {
      const field = fieldOf(button);
      const row = button.parentElement;
      const upper = event.shiftKey || row.querySelector("[data-shift]").getAttribute("aria-pressed") === "true";
      shift(row, false);
      insert(field, field.selectionStart, field.selectionEnd, upper ? button.dataset.letter.toUpperCase() : button.dataset.letter);
    },
    shift(button) {
      shift(button.parentElement, button.getAttribute("aria-pressed") !== "true");
    },
    example(button) {
      const field = fieldOf(button);
      insert(field, 0, field.value.length, button.dataset.example);
    },
    word(button) {
      const field = fieldOf(button);
      const { word, typed } = button.dataset;
      const caret = field.selectionStart;
      const there = field.value.slice(0, caret).match(/\p{L}*$/u)[0];
      if (there !== typed) return; // typed on since: better ones are on their way
      const space = /^[\s.,!?;:»")]/.test(field.value.slice(field.selectionEnd)) ? "" : " ";
      insert(field, caret - typed.length, field.selectionEnd, word + space);
    },
    take(button) {
      const field = first();
      insert(field, field.value.length, field.value.length, button.parentElement.querySelector(".new").textContent);
    },
  };

  function shift(row, pressed) {
    row.querySelector("[data-shift]").setAttribute("aria-pressed", String(pressed));
    for (const one of row.querySelectorAll("[data-letter]"))
      one.textContent = pressed ? one.dataset.letter.toUpperCase() : one.dataset.letter;
  }

  const kinds = Object.keys(presses);
  const pressed = (event) => {
    const button = event.target.closest?.(kinds.map((kind) => `button[data-${kind}]`).join());
    return button && !button.disabled ? button : null;
  };
  // The field keeps its caret, and a phone its keyboard
  document.addEventListener("pointerdown", (event) => {
    if (pressed(event)) event.preventDefault();
  });
  document.addEventListener("click", (event) => {
    const button = pressed(event);
    if (button) presses[kinds.find((kind) => kind in button.dataset)](button, event);
    else ask(event.target);
  });
  document.addEventListener("input", (event) => ask(event.target));
  document.addEventListener("keyup", (event) => {
    if (/^(Arrow|Home|End|Page)/.test(event.key)) ask(event.target);
  });
  document.addEventListener("keydown", (event) => {
    const digit = /^Digit([123])$/.exec(event.code);
    if (!digit || !event.altKey || event.ctrlKey || event.metaKey || !event.target.matches?.("#typing textarea")) return;
    event.preventDefault();
    document.querySelectorAll("#suggestions button")[digit[1] - 1].click();
  });

  function remembered() {
    try {
      return localStorage.getItem("tatar-llm-language");
    } catch {
      return null; // a page inside another one may have no storage
    }
  }

  function speak(code) {
    document.documentElement.lang = code;
    for (const [name, text] of Object.entries(STYLED[code] ?? {}))
      document.documentElement.style.setProperty(`--${name}`, JSON.stringify(text));
    try {
      localStorage.setItem("tatar-llm-language", code);
    } catch {
      // then it is asked again
    }
    return code;
  }

  const colour = (on) => document.documentElement.classList.toggle("coloured", on);

  return { before, colour, remembered, speak };
})();
