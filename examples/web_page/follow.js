// Follows a chat's stream until none of its turns is open, over as many connections as it takes.

const TYPES = [
  "turn", "started", "text_delta", "tool_call", "tool_result", "attempt_reset", "retrying", "waiting", "resumed", "ended",
];
const SAID = {
  turn: "answering", started: "answering", resumed: "answering", retrying: "the model is busy; it is asked again",
  waiting: "waiting for an approval",
};
const LONGEST_PAUSE = 15;
const LOST = "connection lost; going on in a moment";

function address(stream, seen) {
  return `${stream}${seen.id ? `?after=${seen.id}` : ""}`;
}

// What a connection would get. EventSource does not tell 204 (nothing comes) from 503 (try again).
async function look(stream, seen) {
  const enough = new AbortController();
  try {
    const response = await fetch(address(stream, seen), { signal: enough.signal });
    const said = response.ok ? {} : await response.json().catch(() => ({}));
    return { status: response.status, error: said.error || `refused (${response.status})` };
  } catch {
    return { status: 0 }; // no connection
  } finally {
    enough.abort();
  }
}

// One EventSource. If it is cut off it reconnects by itself, with its last event's id; it ends when the server refuses it
// or when the response ends behind a turn's end.
function connect(stream, seen, take, say) {
  return new Promise((done) => {
    const source = new EventSource(address(stream, seen));
    let last = "";
    for (const type of TYPES) {
      source.addEventListener(type, (event) => {
        seen.id = event.lastEventId;
        last = type;
        take(type, event.lastEventId, JSON.parse(event.data));
        if (SAID[type]) say(SAID[type]);
      });
    }
    source.addEventListener("error", () => {
      if (last !== "ended") say(LOST);
      if (last !== "ended" && source.readyState !== EventSource.CLOSED) return;
      source.close();
      done();
    });
  });
}

// `seen.id` is the id of the last event that was taken; "" begins with the open turn.
export async function follow(stream, seen, take, say) {
  for (let pause = 1; ; ) {
    const { status, error } = await look(stream, seen);
    if (status === 204) return;
    if (status === 200) {
      pause = 1;
      await connect(stream, seen, take, say);
    } else if (status === 409) {
      seen.id = ""; // the store has lost the event that the id names; to read the turn again is always correct
    } else if (status !== 0 && status !== 429 && status < 500) {
      throw new Error(error);
    } else {
      say(LOST);
      await new Promise((done) => setTimeout(done, pause * 1000));
      pause = Math.min(2 * pause, LONGEST_PAUSE);
    }
  }
}
