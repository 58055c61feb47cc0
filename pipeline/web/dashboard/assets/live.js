// The Live page: parts that the server sends replace those of the page, once a second at most.
// In a hidden tab nothing is asked for. Without scripts, the page has a link that reads it again.

const live = document.getElementById("live");
const state = document.getElementById("live-state");
const button = document.querySelector("[data-pause]");
const held = new Map();
let source = null;
let isPaused = false;

// A table that is open, or a link that has the focus, is not taken away below its reader: what came
// meanwhile is held.
const isInUse = (part) =>
  part.querySelector("details[open]") || part.contains(document.activeElement);

const show = (name, html) => {
  const part = live.querySelector(`[data-part="${name}"]`);
  if (!part) return;
  if ((name === "events" && isPaused) || isInUse(part)) return;
  held.delete(name);
  // Parsed apart, where no script runs and nothing is loaded.
  part.replaceChildren(...new DOMParser().parseFromString(html, "text/html").body.childNodes);
};

const close = () => {
  source?.close();
  source = null;
};

const open = () => {
  if (source || document.hidden) return;
  source = new EventSource(live.dataset.stream);
  source.addEventListener("part", (event) => {
    const { name, html } = JSON.parse(event.data);
    held.set(name, html);
    for (const [one, newest] of held) show(one, newest);
    state.textContent = "As it happens";
  });
  source.addEventListener("problem", (event) => {
    state.textContent = `${JSON.parse(event.data).message} These are the last numbers.`;
  });
  source.onerror = () => {
    state.textContent = "The stream was interrupted, trying again";
    // A browser tries again by itself, but for an answer that is no stream: the page then says why.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => location.reload(), 5000);
  };
};

if (live?.dataset.stream) {
  button.addEventListener("click", () => {
    isPaused = !isPaused;
    button.textContent = isPaused ? "Go on" : "Pause";
    if (held.has("events")) show("events", held.get("events"));
  });
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
}
