// What the server cannot do: bounds that are dragged, films that play while one looks at them.
"use strict";

// A film plays after a moment of hovering or focus, at most four at a time, and is let go when one leaves.
const PATIENCE_MS = 200;
const MOST_FILMS = 4;
const playing = [];
const waiting = new WeakMap();

function play(card) {
  if (card.querySelector("video")) return;
  while (playing.length >= MOST_FILMS) stop(playing[0]);
  const film = document.createElement("video");
  Object.assign(film, { src: card.dataset.film, muted: true, loop: true, playsInline: true, autoplay: true });
  film.setAttribute("aria-hidden", "true");
  card.querySelector(".picture").append(film);
  playing.push(card);
}

function stop(card) {
  clearTimeout(waiting.get(card));
  const film = card.querySelector("video");
  if (film) {
    film.removeAttribute("src");
    film.load(); // ends the request
    film.remove();
  }
  const place = playing.indexOf(card);
  if (place >= 0) playing.splice(place, 1);
}

function card(event) {
  return event.target instanceof Element ? event.target.closest(".card[data-film]") : null;
}

function look(event) {
  const found = card(event);
  if (!found) return;
  clearTimeout(waiting.get(found));
  waiting.set(found, setTimeout(() => play(found), PATIENCE_MS));
}

function leave(event) {
  const found = card(event);
  if (found && !(event.relatedTarget instanceof Node && found.contains(event.relatedTarget))) stop(found);
}

document.addEventListener("pointerover", look);
document.addEventListener("pointerout", leave);
document.addEventListener("focusin", look);
document.addEventListener("focusout", leave);

// The two handles of a bound write what they mean into its field, which is what is sent.
function dragged(event) {
  const handle = event.target;
  if (!(handle instanceof HTMLInputElement) || handle.type !== "range") return;
  const bound = handle.closest(".bound");
  const [low, high] = [bound.querySelector(".low"), bound.querySelector(".high")];
  if (Number(low.value) > Number(high.value)) {
    if (handle === low) low.value = high.value;
    else high.value = low.value;
  }
  // A handle rests on whole steps, so at the very end it may stand a little before it.
  const least = Number(low.value) < Number(low.min) + low.step / 2 ? "" : short(low.value);
  const most = Number(high.value) > Number(high.max) - high.step / 2 ? "" : short(high.value);
  bound.querySelector(".typed").value = least || most ? `${least}..${most}` : "";
  paint(bound, Number(low.value), Number(high.value));
}

function short(value) {
  return String(Number(Number(value).toPrecision(4)));
}

function paint(bound, low, high) {
  const bars = bound.querySelectorAll(".histogram rect");
  const [least, most] = [Number(bound.dataset.least), Number(bound.dataset.most)];
  bars.forEach((bar, place) => {
    const start = least + ((most - least) * place) / bars.length;
    const stop = least + ((most - least) * (place + 1)) / bars.length;
    bar.setAttribute("class", stop > low && start <= high ? "in" : "out");
  });
}

function typed(event) {
  const field = event.target;
  if (!(field instanceof HTMLInputElement) || !field.classList.contains("typed")) return;
  const match = /^(.*)\.\.(.*)$/.exec(field.value.trim());
  if (!match && field.value.trim()) return;
  const bound = field.closest(".bound");
  const [low, high] = [bound.querySelector(".low"), bound.querySelector(".high")];
  low.value = match && match[1] ? match[1] : low.min;
  high.value = match && match[2] ? match[2] : high.max;
  paint(bound, Number(low.value), Number(high.value));
}

// What was done is said where a screen reader hears it.
function say(text) {
  document.querySelector("#said").textContent = text;
}

document.addEventListener("htmx:responseError", (event) => {
  let told = event.detail.xhr.statusText;
  try {
    const problem = JSON.parse(event.detail.xhr.responseText);
    told = [problem.detail, problem.remedy].filter(Boolean).join("; ");
  } catch {
    // what is no problem document has said what it has in its status
  }
  say(told);
});
document.addEventListener("htmx:sendError", () => say("the service does not answer"));

// Keys decide on the clip that has the focus, or on the one of a clip's page. They press the buttons that are there.
function reviewed() {
  return document.activeElement?.closest("[data-clip]") ?? document.querySelector(".whole[data-clip]");
}

function press(clip, decision) {
  const button = clip.querySelector(`[data-decision=${decision}]`);
  if (button.getAttribute("aria-pressed") === "true") say(`${button.textContent}: it is so already`);
  else button.click();
}

function takeBack(clip) {
  const button = clip.querySelector("[data-decision][aria-pressed=true]");
  if (button) button.click();
  else say("nothing was decided");
}

let tagging = null; // the clip that the dialog is about

function tag(clip) {
  const field = clip.querySelector("input[name=tags]");
  const dialog = document.querySelector("#tagging");
  if (field) {
    field.focus();
    return;
  }
  tagging = clip;
  dialog.querySelector("input").value = "";
  dialog.returnValue = "";
  dialog.showModal();
}

function step(clip, forward) {
  const clips = [...document.querySelectorAll(".card[data-clip]")];
  clips[clips.indexOf(clip) + (forward ? 1 : -1)]?.querySelector(".picture").focus();
}

const KEYS = {
  k: (clip) => press(clip, "keep"),
  d: (clip) => press(clip, "drop"),
  u: takeBack,
  t: tag,
  ArrowLeft: (clip) => step(clip, false),
  ArrowRight: (clip) => step(clip, true),
};

document.addEventListener("keydown", (event) => {
  const clip = reviewed();
  const typing = event.target.closest("input:not([type=checkbox]), select, textarea, video, dialog");
  if (!clip || typing || event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, event.key)) return;
  if (!document.querySelector("#keys")?.checked) return;
  event.preventDefault();
  KEYS[event.key](clip);
});

document.querySelector("#tagging").addEventListener("close", (event) => {
  const dialog = event.target;
  const tags = dialog.querySelector("input").value;
  if (dialog.returnValue !== "tag" || !tags.trim()) return;
  const target = tagging.querySelector(".review");
  htmx.ajax("POST", `/clips/${tagging.dataset.clip}/tags`, { target, swap: "outerHTML", values: { tags } });
});

// Whoever dictates or types letters by other means may do without keys; the browser remembers it.
function offerKeys() {
  document.querySelectorAll(".keys").forEach((line) => (line.hidden = false));
  const box = document.querySelector("#keys");
  if (box) box.checked = localStorage.getItem("keys") !== "off";
}

document.addEventListener("change", (event) => {
  if (event.target.id === "keys") localStorage.setItem("keys", event.target.checked ? "on" : "off");
});
document.addEventListener("htmx:afterSettle", offerKeys);
offerKeys();

// An address has what was filled in, and nothing else.
document.addEventListener("htmx:configRequest", (event) => {
  const given = event.detail.parameters;
  for (const name of Object.keys(given)) if (given[name] === "") delete given[name];
});

document.addEventListener("input", dragged);
document.addEventListener("change", typed);
document.querySelectorAll(".handles").forEach((handles) => (handles.hidden = false));
