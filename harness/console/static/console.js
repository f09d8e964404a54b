"use strict";
// Shows what the server sends and sends what is pressed. It keeps nothing: a reload shows the same.
const said = document.getElementById("said");
const names = ["news", "alarm", "clock", "numbers", "signals", "faults", "controls", "drills", "prerequisites", "actions", "timeline"];
const channel = "BroadcastChannel" in window ? new BroadcastChannel("console") : null;
let stream = null;
let release = null;
let heard = Date.now();
let ended = false;

function show(name, html) {
  heard = Date.now();
  said.classList.remove("lost");
  const place = document.getElementById(name);
  if (!place) return;
  const fresh = document.createElement("template");
  fresh.innerHTML = html;
  if (fresh.innerHTML === place.innerHTML) return; // what listens would say it again
  const inside = place !== document.activeElement && place.contains(document.activeElement);
  const focused = inside ? document.activeElement.id : "";
  const unfolded = Array.from(place.querySelectorAll("details"), (one) => one.open);
  place.innerHTML = html;
  place.querySelectorAll("details").forEach((one, number) => { one.open = unfolded[number] ?? false; });
  if (inside) document.getElementById(focused)?.focus();
  if (inside && !place.contains(document.activeElement)) {
    // What was pressed is gone, or may not be pressed now: whoever has no mouse goes on from there.
    place.tabIndex = -1;
    place.focus();
  }
}

const LAST = {
  over: "the game day is over",
  lost: "the run was lost before the game day was closed; its keeper undoes what was on",
};

function over(how) {
  ended = true;
  close();
  said.textContent = LAST[how];
  for (const button of document.querySelectorAll("button")) button.disabled = true;
}

function open() {
  if (stream || ended) return;
  stream = new EventSource("/stream");
  for (const name of names) {
    stream.addEventListener(name, (event) => {
      show(name, event.data);
      channel?.postMessage([name, event.data]);
    });
  }
  stream.addEventListener("gone", () => { location.reload(); });
  for (const how of Object.keys(LAST)) {
    stream.addEventListener(how, () => { over(how); channel?.postMessage([how, ""]); });
  }
}

function close() {
  stream?.close();
  stream = null;
  release?.();
  release = null;
}

// A browser allows six connections to a host: of its tabs one has the stream and tells the others, and a hidden one has none.
function watch() {
  if (document.hidden) { close(); return; }
  if (!navigator.locks || !channel) { open(); return; }
  navigator.locks.request("stream", () => new Promise((done) => {
    if (document.hidden) { done(); return; }
    release = done;
    open();
  }));
}

if (channel) channel.onmessage = (event) => { if (event.data[0] in LAST) over(event.data[0]); else show(event.data[0], event.data[1]); };
document.addEventListener("visibilitychange", watch);
addEventListener("pagehide", close);
watch();

setInterval(() => {
  // Said once: it is read out, too.
  if (!ended && !document.hidden && Date.now() - heard > 12000 && !said.classList.contains("lost")) {
    said.textContent = "nothing was heard from the console for a while: what is shown is old";
    said.classList.add("lost");
  }
}, 1000);

async function send(form, button) {
  const fields = new URLSearchParams(new FormData(form, button?.name ? button : undefined));
  const what = (button?.firstChild?.textContent || "").trim();
  said.textContent = what + " …";
  try {
    const answer = await fetch(form.action, {
      method: "POST", body: fields, headers: { accept: "application/json" }, priority: "high",
    });
    const told = answer.ok ? await answer.json() : { why_not: "refused (" + answer.status + ")" };
    if (ended) return; // how the day ended is the last word: a run that was lost answers nothing
    said.textContent = told.why_not ? "not done: " + told.why_not : what + ": done";
    if (!told.why_not) form.reset();
    if (told.path) {
      const link = document.getElementById("link");
      document.getElementById("made").hidden = false;
      link.value = told.path;
      link.focus();
      link.select();
    }
  } catch {
    if (!ended) said.textContent = "not done: the console does not answer";
  }
}

document.addEventListener("submit", (event) => {
  event.preventDefault();
  send(event.target, event.submitter);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const at = document.activeElement;
  if (event.key === "Escape" && at) { at.blur(); return; }
  if (at && (at.matches("input, select, textarea") || at.isContentEditable)) return;
  const key = event.key.toLowerCase();
  if (!/^[a-z]$/.test(key)) return;
  const field = document.querySelector(`[data-focus="${key}"]`);
  const button = document.querySelector(`button[data-key="${key}"]`);
  if (field) { event.preventDefault(); field.focus(); } else if (button && !button.disabled && !event.repeat) { event.preventDefault(); button.click(); }
});
