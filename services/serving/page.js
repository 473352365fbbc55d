"use strict";
const $ = (id) => document.getElementById(id);
const inputs = [...document.querySelectorAll("[data-path]")];

// Numbers go out digit by digit as they were typed: a key may have more digits than a JavaScript number.
function literal(input) {
  const text = input.value.trim();
  if (text === "") return null;
  if (input.dataset.kind === "number" && /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/.test(text)) return text;
  if (input.dataset.kind === "boolean") return text;
  return JSON.stringify(text);
}

function body() {
  const top = [], inner = {};
  for (const input of inputs) {
    const value = literal(input);
    if (value === null) continue;
    const path = JSON.parse(input.dataset.path);
    const pair = JSON.stringify(path[path.length - 1]) + ":" + value;
    if (path.length === 1) top.push(pair); else (inner[path[0]] ??= []).push(pair);
  }
  for (const [name, pairs] of Object.entries(inner)) top.push(JSON.stringify(name) + ":{" + pairs.join(",") + "}");
  return "{" + top.join(",") + "}";
}

function clear() {
  $("answer").hidden = false;
  for (const id of ["headline", "problem", "fine"]) $(id).textContent = "";
  for (const id of ["reasons", "flags"]) $(id).replaceChildren();
  $("why").hidden = true;
  for (const input of inputs) {
    const label = input.closest("label");
    label.classList.remove("wrong");
    label.querySelector(".complaint").textContent = "";
    input.removeAttribute("aria-invalid");
  }
}

function complain(problems) {
  const rest = [];
  for (const problem of problems) {
    const path = JSON.stringify(problem.loc.slice(1));
    const input = inputs.find((candidate) => candidate.dataset.path === path);
    if (!input) { rest.push(problem.msg); continue; }
    const label = input.closest("label");
    label.classList.add("wrong");
    label.querySelector(".complaint").textContent = problem.msg;
    input.setAttribute("aria-invalid", "true");
  }
  $("problem").textContent = rest.join(" ") || "Some values can't be scored: see above.";
}

function cell(row, text, kind) {
  const made = row.insertCell();
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function show(answer) {
  $("headline").textContent = answer.prediction + " (score " + answer.score.toFixed(4) + ")";
  const largest = Math.max(...answer.reasons.map((reason) => Math.abs(reason.contribution)), 1e-12);
  for (const reason of answer.reasons) {
    const row = $("reasons").insertRow();
    cell(row, reason.feature + " = " + (reason.value === null ? "missing" : reason.value));
    cell(row, (reason.contribution < 0 ? "\u2212" : "+") + Math.abs(reason.contribution).toFixed(3), "figure");
    const bar = cell(row, "", "bar").appendChild(document.createElement("span"));
    bar.className = reason.contribution < 0 ? "down" : "up";
    bar.style.width = Math.round(100 * Math.abs(reason.contribution) / largest) + "%";
  }
  $("why").hidden = answer.reasons.length === 0;
  for (const flag of answer.flags) {
    const item = $("flags").appendChild(document.createElement("li"));
    item.textContent = flag.field + ": " + flag.flag.replaceAll("_", " ");
  }
  const states = Object.entries(answer.state ?? {}).map(([entity, state]) =>
    state.as_of === null ? entity + ": nothing known" : entity + ": as of " + state.as_of);
  $("fine").textContent = ["Answered by the " + answer.arm + ", version " + answer.model_version, ...states].join("; ");
}

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  clear();
  try {
    const response = await fetch("v1/predict?reasons=" + document.body.dataset.reasons,
      { method: "POST", headers: { "Content-Type": "application/json" }, body: body() });
    const said = await response.json();
    if (response.ok) show(said); else complain(said.detail);
  } catch (error) {
    $("problem").textContent = "There was no answer: " + error.message;
  }
  document.body.dataset.answered = String(Number(document.body.dataset.answered ?? 0) + 1);
});
