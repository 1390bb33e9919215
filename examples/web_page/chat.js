// A chat: posts a message, follows its turn, and resumes after a lost connection or a reload.

import { Answer } from "./answer.js";
import { follow } from "./follow.js";

const byId = (id) => document.getElementById(id);
const [log, state, form, message, send, stop] = ["log", "state", "form", "message", "send", "stop"].map(byId);
const LONGEST_PAUSE = 15;

let chat = "";
let open = null; // the turn that is being followed

function random() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function say(text) {
  state.textContent = text;
}

function bubble(role, text = "") {
  const article = document.createElement("article");
  article.className = role;
  article.setAttribute("aria-label", role === "user" ? "You" : "Assistant");
  article.textContent = text;
  log.append(article);
  log.scrollTop = log.scrollHeight;
  return article;
}

// --- a pending message survives a reload -------------------------------------------------------------------

const pending = {
  get: () => JSON.parse(localStorage.getItem(`pending:${chat}`)),
  set: (sent) => localStorage.setItem(`pending:${chat}`, JSON.stringify(sent)),
  clear: () => localStorage.removeItem(`pending:${chat}`),
};

// --- requests ------------------------------------------------------------------------------------------------

function headers(more = {}) {
  const token = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/); // Django's; the other frameworks have none
  return token ? { ...more, "X-CSRFToken": token[1] } : more;
}

async function pause(seconds) {
  await new Promise((done) => setTimeout(done, seconds * 1000));
}

// Sends a message until it is accepted. The key makes all tries one turn.
async function post({ key, text }) {
  for (let wait = 1; ; wait = Math.min(2 * wait, LONGEST_PAUSE)) {
    try {
      const response = await fetch(`/chats/${chat}/messages`, {
        method: "POST",
        headers: headers({ "Content-Type": "application/json", "Idempotency-Key": key }),
        body: JSON.stringify({ message: text }),
      });
      if (response.ok) return (await response.json()).turn;
      const said = await response.json().catch(() => ({}));
      if (response.status !== 429 && response.status < 500) {
        throw Object.assign(new Error(said.error || `refused (${response.status})`), { final: true });
      }
      say(said.error || "the server is busy; trying again");
    } catch (error) {
      if (error.final) throw error;
      say("no connection; trying again");
    }
    await pause(wait);
  }
}

// --- one message and its answer ------------------------------------------------------------------------------

async function converse(sent) {
  busy(true);
  bubble("user", sent.text);
  const answer = new Answer(bubble("assistant"), () => (log.scrollTop = log.scrollHeight));
  try {
    say("sending");
    open = await post(sent);
    await follow(`/chats/${chat}/turns/${open}`, answer, say);
    say("");
  } catch (error) {
    answer.fail(error.message);
    say("");
  }
  open = null;
  pending.clear();
  busy(false);
}

function busy(is) {
  send.disabled = is;
  stop.hidden = !is;
  log.setAttribute("aria-busy", is);
  if (!is) message.focus();
}

async function cancel() {
  if (open) await fetch(`/chats/${chat}/turns/${open}/cancel`, { method: "POST", headers: headers() });
}

// --- the page ------------------------------------------------------------------------------------------------

async function load() {
  // The session's id: its first user owns it. Links may contain anything there, even another path.
  if (!/^#[0-9a-f]{32}$/.test(location.hash)) history.replaceState(null, "", `#${random()}`);
  chat = location.hash.slice(1);
  const response = await fetch(`/chats/${chat}/messages`);
  if (!response.ok) {
    say((await response.json().catch(() => ({}))).error || `refused (${response.status})`);
    return;
  }
  const said = await response.json();
  const sent = pending.get();
  const turn = sent && (await post(sent).catch(() => null));
  for (const { role, text, turn: its } of said) if (its !== turn) bubble(role, text);
  if (sent) await converse(sent);
  else message.focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = message.value.trim();
  if (!text || send.disabled) return;
  const sent = { key: random(), text };
  pending.set(sent);
  message.value = "";
  converse(sent);
});
message.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
document.addEventListener("keydown", (event) => event.key === "Escape" && cancel());
stop.addEventListener("click", cancel);
byId("new").addEventListener("click", (event) => {
  event.preventDefault();
  location.hash = random();
});
addEventListener("hashchange", () => location.reload());

load();
