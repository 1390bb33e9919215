// A chat: posts messages and follows the chat's stream, which goes on after a lost connection or a reload.

import { Answer } from "./answer.js";
import { follow } from "./follow.js";

const byId = (id) => document.getElementById(id);
const [log, state, form, message, send, stop] = ["log", "state", "form", "message", "send", "stop"].map(byId);
const LONGEST_PAUSE = 15;

let chat = "";
let open = null; // the turn whose answer comes
const seen = { id: "" }; // the last event of the chat's stream
const answers = new Map(); // the turns that the stream had, or that were sent from here

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

// --- a message that was not accepted yet survives a reload --------------------------------------------------

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

// --- turns and their answers ---------------------------------------------------------------------------------

function empty() {
  return new Answer(bubble("assistant"), () => (log.scrollTop = log.scrollHeight));
}

// One event of the stream. A turn that is known already is read again, or was sent from here.
function take(type, id, data) {
  if (type !== "turn") {
    answers.get(open).take(type, id, data);
    return;
  }
  open = data.turn;
  if (answers.has(open)) {
    answers.get(open).clear();
  } else {
    bubble("user", data.message);
    answers.set(open, empty());
  }
}

// Follows the turns that are open, or begin meanwhile, from wherever they were sent.
async function followAll(taking = take) {
  busy(true);
  try {
    await follow(`/chats/${chat}/stream`, seen, taking, say);
    say("");
  } catch (error) {
    say(error.message);
  }
  open = null;
  busy(false);
}

async function converse(sent) {
  busy(true);
  bubble("user", sent.text);
  const answer = empty();
  say("sending");
  try {
    open = await post(sent);
    answers.set(open, answer);
  } catch (error) {
    answer.fail(error.message);
    say("");
    return busy(false);
  } finally {
    pending.clear();
  }
  seen.id ||= `${open.split("~").at(-1)}.0-0`; // the turn's beginning: it may have ended before the stream is there
  await followAll();
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
  const sent = pending.get();
  if (sent) await post(sent).catch((error) => say(error.message));
  pending.clear();
  // First the stream, then the earlier messages: a turn that ends in between is in one of them.
  const early = [];
  let taking = (...event) => early.push(event);
  let came;
  const first = new Promise((done) => (came = done));
  const following = followAll((...event) => came(taking(...event)));
  await Promise.race([first, following]);
  const response = await fetch(`/chats/${chat}/messages`);
  if (!response.ok) {
    say((await response.json().catch(() => ({}))).error || `refused (${response.status})`);
    return;
  }
  const coming = early[0]?.[2].turn;
  for (const { role, text, turn } of await response.json()) if (turn !== coming) bubble(role, text);
  taking = take;
  for (const event of early) take(...event);
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
