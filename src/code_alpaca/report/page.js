"use strict";
// The URL fragment contains all state: filters, search and page. A model wrote the rows, so they are
// inserted as text nodes and never parsed as markup.

const ROWS_PER_PAGE = 20;
const FILTERS = ["reason", "language", "verification"];
const DEFAULT_VALUES = { reason: "accepted", language: "unknown", verification: "skipped" };
const TEXT_TITLES = { input: "Input", output: "Output", tests: "Tests" };
const form = document.getElementById("filters");
const list = document.getElementById("list");
const buttons = { ArrowLeft: document.getElementById("previous"), ArrowRight: document.getElementById("next") };
let rows = [];
let ids = new Set();
// Packed: first the seed tasks and the chunk of each request, then the chunks.
const [packedIndex, ...packedChunks] = document.getElementById("origins").textContent.split("\n");
let originIndex; // a promise, once an origin was opened

function create(tag, attributes, ...children) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children);
  return element;
}

async function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

async function unpackRows() {
  const unpacked = await unpack(document.getElementById("packed").textContent);
  for (const row of unpacked) {
    for (const name of FILTERS) row[name] ||= DEFAULT_VALUES[name];
    const texts = [row.instruction, row.input, row.output, row.tests, row.evidence, row.id];
    row.searchText = texts.filter(Boolean).join("\n").toLowerCase();
  }
  return unpacked;
}

function fillFilter(name) {
  const counts = new Map();
  for (const row of rows) counts.set(row[name], (counts.get(row[name]) || 0) + 1);
  const isAccepted = (value) => name === "reason" && value === "accepted";
  const sorted = [...counts].sort((a, b) => isAccepted(b[0]) - isAccepted(a[0]) || b[1] - a[1]);
  for (const [value, count] of sorted) {
    const label = name === "language" ? value : humanize(value);
    form.elements[name].append(create("option", { value }, `${label} (${format(count)})`));
  }
}

function humanize(label) {
  return label.replaceAll("_", " ");
}

function format(number) {
  return number.toLocaleString("en");
}

function readState() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

function toFragment(state) {
  const set = Object.entries(state).filter(([name, value]) => value && !(name === "page" && value == 1));
  return "#" + new URLSearchParams(set);
}

function filterRows({ q = "", ...filters }) {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const active = FILTERS.filter((name) => filters[name]);
  return rows.filter(
    (row) => active.every((name) => row[name] === filters[name]) && words.every((word) => row.searchText.includes(word)),
  );
}

function render() {
  const state = readState();
  for (const name of ["q", ...FILTERS]) form.elements[name].value = state[name] || "";
  const matches = filterRows(state);
  const lastPage = Math.max(1, Math.ceil(matches.length / ROWS_PER_PAGE));
  const page = Math.min(Math.max(1, Number.parseInt(state.page) || 1), lastPage);
  const start = (page - 1) * ROWS_PER_PAGE;
  const visible = matches.slice(start, start + ROWS_PER_PAGE);
  list.replaceChildren(...visible.map(renderRow));
  if (!visible.length) {
    const note = rows.length ? "No row matches." : "This page contains no rows.";
    list.append(create("p", { className: "note" }, note));
  }
  const range = visible.length > 1 ? `${format(start + 1)} to ${format(start + visible.length)}` : format(visible.length && start + 1);
  document.getElementById("place").value = `${range} of ${format(matches.length)}`;
  buttons.ArrowLeft.disabled = page === 1;
  buttons.ArrowRight.disabled = page === lastPage;
  buttons.ArrowLeft.onclick = () => navigate({ ...state, page: page - 1 });
  buttons.ArrowRight.onclick = () => navigate({ ...state, page: page + 1 });
  highlightMatches(state.q || "");
}

function navigate(state) {
  location.hash = toFragment(state);
  const section = document.getElementById("rows");
  if (section.getBoundingClientRect().top < 0) section.scrollIntoView();
}

function renderRow(row) {
  const outcome = row.reason === "accepted" ? "accepted" : "rejected";
  const facts = create(
    "p",
    { className: "facts" },
    create("span", { className: `outcome ${outcome}` }, humanize(row.reason)),
    create("span", {}, row.language),
    create("span", {}, `verification ${humanize(row.verification)}`),
  );
  if (row.test_strength !== undefined) {
    facts.append(create("span", {}, `test strength ${row.test_strength.toFixed(2)}`));
  }
  if (row.id) facts.append(create("span", {}, "id ", create("code", {}, row.id)));
  if (row.nearest_id) {
    facts.append(create("span", {}, `similarity ${(row.nearest_score || 0).toFixed(2)} to `, linkRow(row.nearest_id)));
  }
  const parts = [facts];
  if (row.evidence) parts.push(create("p", { className: "evidence" }, row.evidence));
  parts.push(create("h2", {}, row.instruction || "(no instruction)"));
  for (const [name, title] of Object.entries(TEXT_TITLES)) {
    if (!row[name]) continue;
    const code = colorize(row[name], row.colors?.[name]);
    parts.push(create("h3", {}, title), create("pre", { tabIndex: 0 }, ...code));
  }
  if (packedIndex && (row.request_id || row.seed_ids)) parts.push(renderOrigin(row));
  return create("article", {}, ...parts);
}

function renderOrigin(row) {
  const details = create("details", { className: "origin" }, create("summary", {}, "Where it comes from"));
  const fill = async () => details.append(...describeOrigin(row, await unpackOrigin(row)));
  details.addEventListener("toggle", fill, { once: true });
  return details;
}

async function unpackOrigin(row) {
  const { seedTasks, chunkOf } = await (originIndex ||= unpack(packedIndex));
  const chunk = packedChunks[chunkOf[row.request_id]];
  return { seedTasks, request: chunk && (await unpack(chunk))[row.request_id] };
}

function describeOrigin(row, { seedTasks, request }) {
  const parts = [];
  if (row.seed_ids) {
    const shown = row.seed_ids.map((id) => (seedTasks[id] ? renderSeedTask(seedTasks[id]) : create("p", {}, linkRow(id))));
    parts.push(create("h3", {}, "Seed tasks and rows that the prompt showed"), ...shown);
  }
  if (!request) return [...parts, create("p", { className: "note" }, "This page does not contain the request of this row.")];
  const candidates = request.candidates.map((candidate) => {
    const outcome = candidate.reason ? "rejected" : "accepted";
    const label = create("span", { className: `outcome ${outcome}` }, humanize(candidate.reason || "accepted"));
    return create("li", {}, label, " ", linkRow(candidate.id), ` ${candidate.instruction}`);
  });
  parts.push(...renderMessage(request.prompt), ...renderMessage(request.reply));
  return [...parts, create("h3", {}, "Decisions on the candidates of this reply"), create("ol", {}, ...candidates)];
}

function renderSeedTask(task) {
  const texts = [task.input, task.output].filter(Boolean).map((text) => create("pre", { tabIndex: 0 }, text));
  return create("details", {}, create("summary", {}, create("code", {}, task.id), ` ${task.instruction}`), ...texts);
}

function renderMessage({ title, texts, body }) {
  const json = create("details", {}, create("summary", {}, "JSON body without these texts"), create("pre", { tabIndex: 0 }, body));
  return [create("h3", {}, title), ...texts.map((text) => create("pre", { tabIndex: 0 }, text)), json];
}

function linkRow(id) {
  return create("code", {}, ids.has(id) ? create("a", { href: toFragment({ q: id }) }, id) : id);
}

function colorize(text, runs) {
  if (!runs) return [text];
  const pieces = [];
  let position = 0;
  for (const [, length, kind] of runs.matchAll(/(\d+)([a-z-])/g)) {
    const piece = text.slice(position, (position += Number(length)));
    pieces.push(kind === "-" ? piece : create("span", { className: kind }, piece));
  }
  return [...pieces, text.slice(position)];
}

function highlightMatches(q) {
  if (!globalThis.Highlight) return; // not supported by older browsers
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const ranges = [];
  const walker = document.createTreeWalker(list, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.toLowerCase();
    if (text.length !== walker.currentNode.length) continue; // some letters are longer in lower case
    for (const word of words) {
      for (let start = text.indexOf(word); start >= 0; start = text.indexOf(word, start + word.length)) {
        const range = new Range();
        range.setStart(walker.currentNode, start);
        range.setEnd(walker.currentNode, start + word.length);
        ranges.push(range);
      }
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}

let typingTimer;
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", (event) => {
  const state = Object.fromEntries(new FormData(form));
  clearTimeout(typingTimer);
  if (event.target.name !== "q") return navigate(state);
  typingTimer = setTimeout(() => {
    history.replaceState(null, "", toFragment(state));
    render();
  }, 150);
});
for (const button of document.querySelectorAll("figure button")) {
  button.addEventListener("click", () => button.parentElement.classList.toggle("large"));
}
addEventListener("hashchange", render);
addEventListener("keydown", (event) => {
  const button = buttons[event.key];
  const hasModifier = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey;
  if (button && !hasModifier && !event.target.closest("input, select, pre")) button.click();
});

unpackRows().then(
  (unpacked) => {
    rows = unpacked;
    ids = new Set(rows.map((row) => row.id));
    FILTERS.forEach(fillFilter);
    render();
  },
  () => list.append(create("p", { className: "note" }, "This browser is too old to decompress the rows.")),
);
