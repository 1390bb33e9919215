// Follows a turn to its end, over as many connections as it takes.

const TYPES = ["started", "text_delta", "tool_call", "tool_result", "attempt_reset", "retrying", "waiting", "ended"];
const SAID = { started: "answering", retrying: "the model is busy; it is asked again", waiting: "waiting for an approval" };
const LONGEST_PAUSE = 15;

// One connection. An EventSource that was cut off reconnects by itself, with its last event's id; one that was
// refused (503, or 204: no more events) gives up. Resolves with whether the turn's end was seen.
function connect(turn, seen, answer, say) {
  return new Promise((done) => {
    const source = new EventSource(`${turn}/events${seen.id ? `?after=${seen.id}` : ""}`);
    const end = (ended) => {
      source.close();
      done(ended);
    };
    for (const type of TYPES) {
      source.addEventListener(type, (event) => {
        seen.id = event.lastEventId;
        seen.news = true;
        answer.take(type, event.lastEventId, JSON.parse(event.data));
        if (SAID[type]) say(SAID[type]);
        if (type === "ended") end(true);
      });
    }
    source.addEventListener("open", () => say("answering"));
    source.addEventListener("error", () => {
      say("connection lost; going on in a moment");
      if (source.readyState === EventSource.CLOSED) end(false);
    });
  });
}

// Whether the turn ended without us; shows the answer if so.
async function over(turn, seen, answer) {
  let response;
  try {
    response = await fetch(turn);
  } catch {
    return false; // no connection yet
  }
  if (response.status === 202) seen.refusals += 1; // the turn exists, but its stream was refused
  if (response.status === 202 || response.status === 429 || response.status >= 500) return false;
  const { error, answer: text } = await response.json().catch(() => ({}));
  if (text === undefined) throw new Error(error || `refused (${response.status})`);
  answer.replace(text);
  return true;
}

export async function follow(turn, answer, say) {
  const seen = { id: "", news: false, refusals: 0 };
  for (let pause = 1; ; pause = seen.news ? 1 : Math.min(2 * pause, LONGEST_PAUSE)) {
    if (seen.news) seen.refusals = 0;
    seen.news = false;
    if ((await connect(turn, seen, answer, say)) || (await over(turn, seen, answer))) return;
    if (seen.refusals > 2) {
      seen.id = ""; // the store may have lost the event that the cursor names; reading everything again is always correct
      answer.clear();
    }
    await new Promise((done) => setTimeout(done, pause * 1000));
  }
}
