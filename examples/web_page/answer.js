// The display of one turn: a list of parts, each with the id of its event, so that a new attempt can remove some.

// Whether an event comes after another one of the same turn; ids of a chat's stream begin with the turn and a dot.
function behind(id, other) {
  const [token, number] = place(id);
  const [otherToken, otherNumber] = place(other);
  return token !== otherToken ? token > otherToken : number > otherNumber;
}

function place(id) {
  return id.split(".").at(-1).split("-").map(Number);
}

export class Answer {
  constructor(element, changed) {
    this.element = element;
    this.changed = changed;
    this.parts = [];
  }

  take(type, id, data) {
    switch (type) {
      case "text_delta":
        this.parts.push({ id, kind: "text", text: data.text });
        break;
      case "tool_call":
        this.parts.push({ id, kind: "call", call: data.call_id, text: `${data.tool}(${shown(data.args)})` });
        break;
      case "tool_result":
        this.parts.push({ id, kind: "result", call: data.call_id, text: shown(data.result) });
        break;
      case "attempt_reset": // a worker was lost: what it had not completed comes again
        this.parts = data.valid_through ? this.parts.filter((part) => !behind(part.id, data.valid_through)) : [];
        this.parts.push({ id, kind: "note", text: "(begun again by another worker)" });
        break;
      case "ended":
        if (data.status !== "succeeded") this.fail(data.error?.message || data.status);
        break;
      default:
        return;
    }
    this.show();
  }

  clear() {
    this.parts = [];
    this.show();
  }

  fail(text) {
    this.element.classList.add("failed");
    this.parts.push({ id: "0-0", kind: "note", text });
    this.show();
  }

  show() {
    const results = new Map(this.parts.filter((part) => part.kind === "result").map((part) => [part.call, part.text]));
    const shownParts = [];
    for (const part of this.parts) {
      const last = shownParts.at(-1);
      if (part.kind === "result") continue;
      if (part.kind === "text" && last?.kind === "text") last.text += part.text;
      else if (part.kind === "call") shownParts.push({ kind: "call", text: `${part.text} → ${results.get(part.call) ?? "…"}` });
      else shownParts.push({ ...part });
    }
    this.element.replaceChildren(
      ...shownParts.map(({ kind, text }) => {
        const span = document.createElement("span");
        span.className = kind;
        span.textContent = text;
        return span;
      }),
    );
    this.changed();
  }
}

function shown(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}
