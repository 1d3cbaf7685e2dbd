"use strict";
// The hash of the address holds all state: what is filtered, searched and shown. Rows were written
// by a model nobody trusts, so they reach the page as text nodes and never as markup.

const PER_PAGE = 20;
const FILTERS = ["reason", "language", "verification"];
const UNNAMED = { reason: "accepted", language: "unknown", verification: "skipped" };
const TEXTS = { input: "Input", output: "Output", tests: "Tests" };
const form = document.getElementById("filters");
const list = document.getElementById("list");
const turns = { ArrowLeft: document.getElementById("previous"), ArrowRight: document.getElementById("next") };
let rows = [];
let known = new Set();

function make(tag, attributes, ...children) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children);
  return element;
}

async function unpack() {
  const packed = atob(document.getElementById("packed").textContent);
  const bytes = Uint8Array.from(packed, (each) => each.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const found = await new Response(stream).json();
  for (const row of found) {
    for (const name of FILTERS) row[name] ||= UNNAMED[name];
    const told = [row.instruction, row.input, row.output, row.tests, row.evidence, row.id];
    row.searched = told.filter(Boolean).join("\n").toLowerCase();
  }
  return found;
}

function offer(name) {
  const counts = new Map();
  for (const row of rows) counts.set(row[name], (counts.get(row[name]) || 0) + 1);
  const accepted = (value) => name === "reason" && value === "accepted";
  const order = [...counts].sort((a, b) => accepted(b[0]) - accepted(a[0]) || b[1] - a[1]);
  for (const [value, count] of order) {
    form.elements[name].append(make("option", { value }, `${name === "language" ? value : spoken(value)} (${count.toLocaleString("en")})`));
  }
}

function spoken(label) {
  return label.replaceAll("_", " ");
}

function state() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

function address(values) {
  const given = Object.entries(values).filter(([name, value]) => value && !(name === "page" && value == 1));
  return "#" + new URLSearchParams(given);
}

function matching({ q = "", ...wanted }) {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const set = FILTERS.filter((name) => wanted[name]);
  return rows.filter(
    (row) => set.every((name) => row[name] === wanted[name]) && words.every((word) => row.searched.includes(word)),
  );
}

function show() {
  const wanted = state();
  for (const name of ["q", ...FILTERS]) form.elements[name].value = wanted[name] || "";
  const found = matching(wanted);
  const last = Math.max(1, Math.ceil(found.length / PER_PAGE));
  const page = Math.min(Math.max(1, Number.parseInt(wanted.page) || 1), last);
  const first = (page - 1) * PER_PAGE;
  const shown = found.slice(first, first + PER_PAGE);
  list.replaceChildren(...shown.map(article));
  if (!shown.length) list.append(make("p", { className: "note" }, rows.length ? "No row is like that." : "This page holds no rows."));
  const [from, to, of] = [first + 1, first + shown.length, found.length].map((each) => each.toLocaleString("en"));
  document.getElementById("place").value = shown.length > 1 ? `${from} to ${to} of ${of}` : `${shown.length && from} of ${of}`;
  turns.ArrowLeft.disabled = page === 1;
  turns.ArrowRight.disabled = page === last;
  turns.ArrowLeft.onclick = () => turn({ ...wanted, page: page - 1 });
  turns.ArrowRight.onclick = () => turn({ ...wanted, page: page + 1 });
  mark(wanted.q || "");
}

function turn(values) {
  location.hash = address(values);
  const top = document.getElementById("rows");
  if (top.getBoundingClientRect().top < 0) top.scrollIntoView();
}

function article(row) {
  const accepted = row.reason === "accepted";
  const facts = make(
    "p",
    { className: "facts" },
    make("span", { className: `outcome ${accepted ? "accepted" : "rejected"}` }, spoken(row.reason)),
    make("span", {}, row.language),
    make("span", {}, `verification ${spoken(row.verification)}`),
  );
  if (row.id) facts.append(make("span", {}, "id ", make("code", {}, row.id)));
  if (row.nearest_id) {
    const near = known.has(row.nearest_id) ? make("a", { href: address({ q: row.nearest_id }) }, row.nearest_id) : row.nearest_id;
    facts.append(make("span", {}, `${(row.nearest_score || 0).toFixed(2)} like `, make("code", {}, near)));
  }
  const parts = [facts];
  if (row.evidence) parts.push(make("p", { className: "evidence" }, row.evidence));
  parts.push(make("h2", {}, row.instruction || "(no instruction)"));
  for (const [name, title] of Object.entries(TEXTS)) {
    if (!row[name]) continue;
    parts.push(make("h3", {}, title), make("pre", { tabIndex: 0 }, ...coloured(row[name], row.colours?.[name])));
  }
  return make("article", {}, ...parts);
}

function coloured(text, runs) {
  if (!runs) return [text];
  const pieces = [];
  let at = 0;
  for (const [, length, kind] of runs.matchAll(/(\d+)([a-z-])/g)) {
    const piece = text.slice(at, (at += Number(length)));
    pieces.push(kind === "-" ? piece : make("span", { className: kind }, piece));
  }
  return [...pieces, text.slice(at)];
}

function mark(q) {
  if (!globalThis.Highlight) return; // an older browser shows the rows without marks
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const ranges = [];
  const walker = document.createTreeWalker(list, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.toLowerCase();
    if (text.length !== walker.currentNode.length) continue; // some letters grow in lower case
    for (const word of words) {
      for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
        const range = new Range();
        range.setStart(walker.currentNode, at);
        range.setEnd(walker.currentNode, at + word.length);
        ranges.push(range);
      }
    }
  }
  CSS.highlights.set("found", new Highlight(...ranges));
}

let typing;
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", (event) => {
  const values = Object.fromEntries(new FormData(form));
  clearTimeout(typing);
  if (event.target.name !== "q") return turn(values);
  typing = setTimeout(() => {
    history.replaceState(null, "", address(values));
    show();
  }, 150);
});
for (const button of document.querySelectorAll("figure button")) {
  button.addEventListener("click", () => button.parentElement.classList.toggle("large"));
}
addEventListener("hashchange", show);
addEventListener("keydown", (event) => {
  const button = turns[event.key];
  const taken = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey;
  if (button && !taken && !event.target.closest("input, select, pre")) button.click();
});

unpack().then(
  (found) => {
    rows = found;
    known = new Set(rows.map((row) => row.id));
    FILTERS.forEach(offer);
    show();
  },
  () => list.append(make("p", { className: "note" }, "This browser is too old to unpack the rows.")),
);
