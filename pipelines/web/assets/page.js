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

// An address has what was filled in, and nothing else.
document.addEventListener("htmx:configRequest", (event) => {
  const given = event.detail.parameters;
  for (const name of Object.keys(given)) if (given[name] === "") delete given[name];
});

document.addEventListener("input", dragged);
document.addEventListener("change", typed);
document.querySelectorAll(".handles").forEach((handles) => (handles.hidden = false));
