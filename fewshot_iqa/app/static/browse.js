"use strict";
// All rows are here, but only the tiles in sight are in the page.
const NAME = 0, QUALITY = 1, STD = 2, RATING = 3, LIKELIEST = 4, NOTE = 5;
const HEIGHT = 234, LEAST = 160, MARGIN = 2; // a tile's height, the least width, rows beyond the edges
let rows = [], total = 0, rated = {}, order = [], columns = 1;
const selected = new Set(), tiles = new Map(); // numbers of rows; place in the order -> element
let focused = 0, anchor = null, viewed = null, since = 0; // a place; numbers of rows, as places change while a model scores

async function load() {
  const found = await ask(`rows?start=${rows.length}`);
  if (!rows.length) rated = found.rated;
  total = found.total;
  if (found.rows.length || !order.length) {
    for (const row of found.rows) rows.push(row);
    offer($("folder"), rows.map((row) => row[NAME].includes("/") ? row[NAME].slice(0, row[NAME].lastIndexOf("/")) : "."));
    offer($("likeliest"), rows.map((row) => row[LIKELIEST]));
    arrange();
  }
  $("message").textContent = found.failed;
  if (rows.length < total && !found.failed) setTimeout(() => load().catch(fail), 1000);
}
function fail(error) { $("message").textContent = `${error.message}. Is fsiqa still running?`; }

function offer(select, values) {
  const known = new Set([...select.options].map((option) => option.value));
  for (const value of [...new Set(values)].sort()) if (value && !known.has(value)) select.add(new Option(value, value));
  select.parentElement.hidden = select.options.length < 3; // of one folder, or without explanations
}

const number = (value, otherwise) => value === null ? otherwise : value;
const ORDERS = {
  worst: (a, b) => number(a[QUALITY], 2) - number(b[QUALITY], 2),
  best: (a, b) => number(b[QUALITY], -1) - number(a[QUALITY], -1),
  uncertain: (a, b) => number(b[STD], -1) - number(a[STD], -1),
  name: (a, b) => a[NAME] < b[NAME] ? -1 : 1,
};

function arrange() {
  const low = parseFloat($("low").value), high = parseFloat($("high").value), text = $("name").value.toLowerCase();
  const deviations = rows.map((row) => row[STD]).filter((std) => std !== null).sort((a, b) => a - b);
  const tenth = deviations[Math.floor(0.9 * deviations.length)];
  const folder = $("folder").value, likeliest = $("likeliest").value, uncertain = $("uncertain").checked;
  const keeps = (row) => !(row[QUALITY] < low || row[QUALITY] > high) && (isNaN(low) && isNaN(high) || row[QUALITY] !== null)
    && (!folder || (folder === "." ? !row[NAME].includes("/") : row[NAME].startsWith(`${folder}/`)))
    && (!likeliest || row[LIKELIEST] === likeliest) && (!uncertain || row[STD] !== null && row[STD] >= tenth)
    && row[NAME].toLowerCase().includes(text);
  const compare = ORDERS[$("order").value], before = order[focused], within = $("grid").contains(document.activeElement);
  order = rows.map((_, i) => i).filter((i) => keeps(rows[i]));
  order.sort((a, b) => compare(rows[a], rows[b]) || a - b);
  for (const tile of tiles.values()) tile.remove();
  tiles.clear();
  focused = Math.max(0, order.indexOf(before));
  layout();
  if (within) walk(0);
}

function tell() {
  const scored = rows.length < total ? `${rows.length} of ${total} scored` : `${total} images`;
  const chosen = selected.size ? `, ${selected.size} selected` : "";
  $("progress").textContent = `${scored}${order.length < rows.length ? `, ${order.length} shown` : ""}${chosen}`;
  $("export").disabled = !selected.size;
}

function layout() {
  const width = $("grid").clientWidth;
  columns = Math.max(2, Math.floor(width / LEAST));
  $("grid").style.height = `${Math.ceil(order.length / columns) * HEIGHT}px`;
  draw();
  tell();
}

function draw() {
  const scroller = $("scroller"), width = $("grid").clientWidth / columns;
  const first = Math.max(0, Math.floor(scroller.scrollTop / HEIGHT) - MARGIN) * columns;
  const last = Math.min(order.length, (Math.ceil((scroller.scrollTop + scroller.clientHeight) / HEIGHT) + MARGIN) * columns);
  for (const [place, tile] of tiles) if (place < first || place >= last) { tile.remove(); tiles.delete(place); }
  for (let place = first; place < last; place += 1) {
    const tile = tiles.get(place) || add(place);
    tile.style.cssText = `width: ${width}px; height: ${HEIGHT}px; transform: translate(${place % columns * width}px, ${Math.floor(place / columns) * HEIGHT}px)`;
  }
  document.body.dataset.drawn = `${first}-${last}`;
}

function about(row) {
  if (row[QUALITY] === null) return row[NOTE] || "no score";
  const rating = row[NAME] in rated ? `, rated ${rated[row[NAME]]}` : "";
  return row[QUALITY].toFixed(3) + (row[STD] === null ? "" : ` ± ${row[STD].toFixed(2)}`) + rating;
}

function add(place) {
  const i = order[place], row = rows[i], tile = document.createElement("div");
  tile.className = "tile";
  tile.setAttribute("role", "listitem");
  tile.setAttribute("aria-setsize", order.length);
  tile.setAttribute("aria-posinset", place + 1);
  const box = document.createElement("div"), open = document.createElement("button"), image = document.createElement("img");
  open.className = "open";
  open.tabIndex = place === focused ? 0 : -1;
  open.addEventListener("click", () => view(i));
  open.addEventListener("focus", () => focusOn(place));
  image.alt = `${row[NAME]}, quality ${about(row)}`;
  image.src = `thumbnail/${i}`;
  image.addEventListener("error", () => image.replaceWith("cannot be shown"));
  open.append(image);
  const label = document.createElement("label"), check = document.createElement("input"), text = document.createElement("span");
  check.type = "checkbox";
  check.checked = selected.has(i);
  check.addEventListener("click", (event) => choose(place, check.checked, event.shiftKey));
  text.className = "about";
  text.title = [row[NAME], about(row), row[LIKELIEST], row[NOTE]].filter(Boolean).join("\n");
  text.append(about(row), document.createElement("br"), row[NAME].slice(row[NAME].lastIndexOf("/") + 1));
  label.append(check, text);
  box.append(open, label);
  tile.append(box);
  tile.classList.toggle("selected", selected.has(i));
  $("grid").append(tile);
  tiles.set(place, tile);
  return tile;
}

function redraw() {
  const within = $("grid").contains(document.activeElement);
  for (const tile of tiles.values()) tile.remove();
  tiles.clear();
  draw();
  tell();
  if (within) tiles.get(focused)?.querySelector(".open").focus({ preventScroll: true });
}

function choose(place, chosen, range) {
  const last = range ? Math.max(0, order.indexOf(anchor)) : place;
  const [from, to] = [Math.min(last, place), Math.max(last, place)];
  for (let each = from; each <= to; each += 1) chosen ? selected.add(order[each]) : selected.delete(order[each]);
  anchor = order[place];
  for (let each = from; each <= to; each += 1) {
    const tile = tiles.get(each);
    if (!tile) continue;
    tile.classList.toggle("selected", chosen);
    tile.querySelector("input").checked = chosen;
  }
  tell();
}

function focusOn(place) {
  tiles.get(focused)?.querySelector(".open").setAttribute("tabindex", "-1");
  focused = place;
  tiles.get(place)?.querySelector(".open").setAttribute("tabindex", "0");
}

function walk(step) {
  if (!order.length) return;
  const place = Math.min(order.length - 1, Math.max(0, focused + step)), scroller = $("scroller");
  const top = Math.floor(place / columns) * HEIGHT;
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  if (top + HEIGHT > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + HEIGHT - scroller.clientHeight;
  draw();
  focusOn(place);
  tiles.get(place).querySelector(".open").focus({ preventScroll: true });
}

$("grid").addEventListener("keydown", (event) => {
  const page = Math.max(1, Math.floor($("scroller").clientHeight / HEIGHT)) * columns;
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, PageUp: -page, PageDown: page, Home: -order.length, End: order.length };
  if (event.target.className === "open" && event.key in steps) { event.preventDefault(); walk(steps[event.key]); }
  if (event.target.className === "open" && event.key === "x") choose(focused, !selected.has(order[focused]), false);
});

// One image, whole or one to one, and the rating of it.
function view(i) {
  viewed = i;
  const row = rows[i], image = new Image(), place = order.indexOf(i);
  if (place >= 0) focusOn(place);
  image.alt = row[NAME];
  image.addEventListener("error", () => { if (!image.src.endsWith("png=1")) image.src = `image/${i}?png=1`; });
  image.src = `image/${i}`;
  $("large").replaceChildren(image);
  const rating = row[RATING] === null ? "" : `, predicted rating ${row[RATING]}`;
  $("caption").textContent = `${row[NAME]}: quality ${about(row)}${rating}${row[LIKELIEST] ? `, ${row[LIKELIEST]}` : ""}`;
  for (const button of document.querySelectorAll(".vote")) {
    button.disabled = row[QUALITY] === null; // it cannot be read
    if (button.dataset.value) button.setAttribute("aria-pressed", rated[row[NAME]] === button.dataset.value);
  }
  if ($("value")) $("value").value = rated[row[NAME]] ?? "";
  if (!$("viewer").open) $("viewer").showModal();
  since = performance.now();
}
async function vote(value) {
  const rater = $("rater").value.trim();
  if (!rater) { $("told").textContent = "who rates? enter a name"; $("rater").focus(); return; }
  const i = viewed, row = rows[i];
  try {
    rated = (await ask("rate", { number: i, rater, value, seconds: (performance.now() - since) / 1000 })).rated;
    $("told").textContent = `saved ${value} for ${row[NAME]}`;
    redraw();
    if (viewed === i) view(i);
  } catch (error) { $("told").textContent = `not saved: ${error.message}`; }
}
function turn(step) {
  const place = order.indexOf(viewed) + step;
  if (place >= 0 && place < order.length) view(order[place]);
}
for (const button of document.querySelectorAll(".vote")) button.addEventListener("click", () => vote(button.dataset.value ?? $("value").value));
$("previous").addEventListener("click", () => turn(-1));
$("next").addEventListener("click", () => turn(1));
$("close").addEventListener("click", () => $("viewer").close());
$("viewer").addEventListener("close", () => { $("large").classList.remove("whole"); walk(Math.max(0, order.indexOf(viewed)) - focused); });
$("large").addEventListener("click", () => $("large").classList.toggle("whole"));
$("viewer").addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
  const keyed = [...document.querySelectorAll("[data-key]")].find((each) => each.dataset.key === event.key);
  if (keyed) { event.preventDefault(); keyed.click(); } // the key would land in the field that gets the focus
  else if (event.key === "ArrowLeft") $("previous").click();
  else if (event.key === "ArrowRight") $("next").click();
  else if (event.key === "Enter" && event.target.id === "large") $("large").click();
});

$("all").addEventListener("click", () => { order.forEach((i) => selected.add(i)); redraw(); });
$("none").addEventListener("click", () => { selected.clear(); redraw(); });
$("export").addEventListener("click", () => {
  const quoted = (text) => /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  const lines = [...selected].sort((a, b) => ORDERS.worst(rows[a], rows[b])).map((i) => `${quoted(rows[i][NAME])},${rows[i][QUALITY] ?? ""}`);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`image,quality\n${lines.join("\n")}\n`], { type: "text/csv" }));
  link.download = "selected.csv";
  link.click();
  URL.revokeObjectURL(link.href);
});
for (const id of ["low", "high", "folder", "likeliest", "uncertain", "name", "order"]) $(id).addEventListener("input", () => { $("scroller").scrollTop = 0; focused = 0; arrange(); });
$("scroller").addEventListener("scroll", draw, { passive: true });
new ResizeObserver(layout).observe($("scroller"));
load().catch(fail);
