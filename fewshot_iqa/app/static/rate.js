"use strict";
// One trial is on screen, the next are loaded and decoded. A vote is on disk before the page moves on.
const views = [...document.querySelectorAll(".view")];
const scale = document.body.dataset.scale;
const images = new Map(); // url -> promise of a decoded <img>
let rater = "", state = null, shown = null, since = 0, busy = false;
const UNSEEN = 150; // ms in which nobody has seen an image: a held key or a second click
let zoom = 1, x = 0, y = 0; // of all views: screen pixels an image pixel, and the image's point in the middle

function load(url) {
  if (!images.has(url)) {
    const image = new Image(), decode = (source) => { image.src = source; return image.decode().then(() => image); };
    images.set(url, decode(url).catch(() => decode(`${url}?png=1`))); // as PNG what the browser does not read
    images.get(url).catch(() => {});
  }
  return images.get(url);
}

async function act(path, more) {
  if (busy || !rater) return;
  busy = true;
  try {
    state = await ask(path, { rater, ...more });
    $("message").textContent = "";
    await show();
  } catch (error) {
    $("message").textContent = `not saved: ${error.message}. Is fsiqa still running? Try again.`;
  } finally {
    busy = false;
  }
}

async function show() {
  for (;;) {
    const trial = state.trials[0];
    $("progress").textContent = `${state.votes} rated, ${state.open} to go` + told(state.broken);
    $("votes").hidden = false;
    $("begin").hidden = true;
    $("end").hidden = Boolean(trial);
    for (const button of document.querySelectorAll(".vote, #skip")) button.disabled = !trial;
    $("undo").disabled = !state.votes;
    for (const each of state.trials) each.urls.forEach(load);
    for (const url of images.keys()) if (!state.trials.some((each) => each.urls.includes(url))) images.delete(url);
    if (!trial) { shown = null; views.forEach((view) => view.replaceChildren()); return; }
    const found = await Promise.allSettled(trial.urls.map(load));
    const bad = found.findIndex((each) => each.status === "rejected");
    if (bad < 0) {
      found.forEach((each, i) => {
        each.value.alt = views.length > 1 ? `image ${"AB"[i]} to compare` : "image to rate";
        views[i].replaceChildren(each.value);
      });
      shown = trial;
      if (scale === "continuous") { $("value").value = 50; $("shown").textContent = "50"; $("value").focus(); }
      one();
      since = performance.now();
      document.body.dataset.shown = trial.images.join(" ");
      return;
    }
    state = await ask("drop", { rater, image: trial.images[bad] });
  }
}

function told(broken) {
  return broken.length ? `; ${broken.length} cannot be shown: ${broken.join(", ")}` : "";
}

function vote(value) {
  if (shown && performance.now() - since > UNSEEN) act("vote", { images: shown.images, repetition: shown.repetition, value, seconds: (performance.now() - since) / 1000 });
}

// Zoom and position, in pixels of the screen.
const ratio = () => window.devicePixelRatio || 1;
const picture = () => views[0].querySelector("img");
function place() {
  for (const view of views) {
    const image = view.querySelector("img");
    if (!image) continue;
    const size = zoom / ratio();
    const left = Math.round((view.clientWidth / 2 - x * size) * ratio()) / ratio();
    const top = Math.round((view.clientHeight / 2 - y * size) * ratio()) / ratio();
    image.style.transform = `translate(${left}px, ${top}px) scale(${size})`;
    image.style.imageRendering = zoom >= 2 ? "pixelated" : "auto";
  }
  $("zoom").textContent = `${Math.round(zoom * 100)} %`;
}
function centre() { const image = picture(); if (image) { x = image.naturalWidth / 2; y = image.naturalHeight / 2; } }
function one() { zoom = 1; centre(); place(); }
function fit() {
  const image = picture();
  if (!image) return;
  zoom = Math.min(1, views[0].clientWidth * ratio() / image.naturalWidth, views[0].clientHeight * ratio() / image.naturalHeight);
  centre(); place();
}
function magnify(factor, view, at) {
  const before = zoom;
  zoom = Math.min(16, Math.max(0.05, zoom * factor));
  if (view && at) { // the point under the pointer stays
    const box = view.getBoundingClientRect(), change = ratio() / before - ratio() / zoom;
    x += (at.clientX - box.left - box.width / 2) * change; y += (at.clientY - box.top - box.height / 2) * change;
  }
  place();
}
function move(dx, dy) {
  const image = picture();
  if (!image) return;
  x = Math.min(image.naturalWidth, Math.max(0, x + dx * ratio() / zoom)); y = Math.min(image.naturalHeight, Math.max(0, y + dy * ratio() / zoom));
  place();
}

for (const view of views) {
  const touches = new Map();
  view.addEventListener("wheel", (event) => { event.preventDefault(); magnify(event.deltaY < 0 ? 1.2 : 1 / 1.2, view, event); }, { passive: false });
  view.addEventListener("pointerdown", (event) => { view.setPointerCapture(event.pointerId); touches.set(event.pointerId, event); });
  view.addEventListener("pointermove", (event) => {
    const before = touches.get(event.pointerId);
    if (!before) return;
    const other = [...touches.values()].find((each) => each.pointerId !== event.pointerId);
    const distance = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    if (other) magnify(distance(event) / Math.max(1, distance(before)), view, event);
    else move(before.clientX - event.clientX, before.clientY - event.clientY);
    touches.set(event.pointerId, event);
  });
  for (const end of ["pointerup", "pointercancel"]) view.addEventListener(end, (event) => touches.delete(event.pointerId));
}
window.addEventListener("resize", place);
$("in").addEventListener("click", () => magnify(1.25));
$("out").addEventListener("click", () => magnify(1 / 1.25));
$("one").addEventListener("click", one);
$("fit").addEventListener("click", fit);
$("undo").addEventListener("click", () => state && act("undo", { votes: state.votes }));
$("skip").addEventListener("click", () => shown && act("skip", { images: shown.images, repetition: shown.repetition }));
for (const button of document.querySelectorAll(".vote")) button.addEventListener("click", () => vote(button.dataset.value ?? $("value").value));
if (scale === "continuous") $("value").addEventListener("input", () => { $("shown").textContent = $("value").value; });

document.addEventListener("keydown", (event) => {
  if (event.target.id === "rater" || event.repeat && !event.key.startsWith("Arrow") || event.ctrlKey || event.metaKey || event.altKey) return;
  const keyed = [...document.querySelectorAll("[data-key]")].find((each) => each.dataset.key === event.key);
  if (keyed && !(event.key === "Enter" && event.target.tagName === "BUTTON")) { event.preventDefault(); keyed.click(); return; }
  const step = 60, sliding = event.target.id === "value";
  const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
  if (moves[event.key] && !sliding) { event.preventDefault(); move(...moves[event.key]); }
  else if (event.key === "+" || event.key === "=") magnify(1.25);
  else if (event.key === "-") magnify(1 / 1.25);
  else if (event.key === "0") one();
  else if (event.key === "f") fit();
});

$("rater").addEventListener("input", () => { // nobody votes under a name that is not confirmed
  rater = "";
  shown = null;
  $("votes").hidden = true;
  $("who").querySelector("button").textContent = "Begin";
});
$("who").addEventListener("submit", async (event) => {
  event.preventDefault();
  shown = null;
  rater = $("rater").value.trim();
  if (!rater) return;
  sessionStorage.setItem("rater", rater);
  try {
    state = await ask(`state?rater=${encodeURIComponent(rater)}`);
    $("who").querySelector("button").textContent = "Change";
    views[0].focus();
    await show();
  } catch (error) { $("message").textContent = error.message; }
});
if (sessionStorage.getItem("rater")) { // the page was loaded again
  $("rater").value = sessionStorage.getItem("rater");
  $("who").requestSubmit();
}
