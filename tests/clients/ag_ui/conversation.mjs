// AG-UI's client for JavaScript on a gateway: node conversation.mjs http://127.0.0.1:8000 THREAD
// THREAD is a session that has an agent `Treasurer` with a tool `refund` that needs approval.
// The client validates each event and their sequence. Prints one JSON object with what each part came to.

import { HttpAgent, randomUUID } from "@ag-ui/client";

const [, , url, treasury] = process.argv;
const found = {};
const warnings = [];
console.warn = (...words) => warnings.push(words.join(" "));

const agentOf = (name, threadId = randomUUID(), fetch = undefined) =>
  new HttpAgent({ url: `${url}/v1/ag-ui/${name}`, threadId, ...(fetch && { fetch }) });
const say = (agent, content) => agent.messages.push({ id: randomUUID(), role: "user", content });
const last = (agent) => agent.messages.at(-1).content;

const chat = agentOf("assistant");
say(chat, "SAY one two three");
await chat.runAgent();
say(chat, "RECITE");
await chat.runAgent();
found.chat = last(chat);

const page = agentOf("assistant", chat.threadId);
await page.runAgent();
found.history = JSON.stringify(page.messages.map(({ role, content }) => [role, content]));

const clerk = agentOf("clerk");
say(clerk, 'CALL stamp({"text": "letter"})');
await clerk.runAgent();
found.tool = clerk.messages.map(({ role, content, toolCalls }) => content || toolCalls?.[0].function.name || role);

const weather = {
  name: "weather",
  description: "The weather.",
  parameters: { type: "object", properties: { city: { type: "string" } } },
};
const outside = agentOf("assistant");
say(outside, 'CALL weather({"city": "Rome"})');
let pending;
const watch = { onRunFinishedEvent: (params) => void (pending = params.pendingToolCallIds) };
await outside.runAgent({ tools: [weather] }, watch);
outside.messages.push({ id: randomUUID(), role: "tool", toolCallId: pending[0], content: "rain" });
await outside.runAgent({ tools: [weather] }, watch);
found.outside = [last(outside), pending.length];

const treasurer = agentOf("Treasurer", treasury);
await treasurer.runAgent();
say(treasurer, 'CALL refund({"amount": 90})');
await treasurer.runAgent();
const [interrupt] = treasurer.pendingInterrupts;
found.interrupt = [interrupt.reason, interrupt.message];
await treasurer.runAgent({
  resume: [{ interruptId: interrupt.id, status: "resolved", payload: { approved: true, editedArgs: { amount: 5 } } }],
});
found.resumed = [last(treasurer), treasurer.pendingInterrupts.length];

// The client throws the connection's error once more, where nobody can catch it, when it lets go of the response.
process.on("unhandledRejection", (error) => {
  if (error.message !== "connection lost") throw error;
});

// The connection is lost in the middle of a text; the same run brings the whole of it.
let lost = true;
const losing = async (address, init) => {
  const response = await fetch(address, init);
  if (!lost) return response;
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let seen = "";
  const body = new ReadableStream({
    async pull(controller) {
      const { done, value } = await reader.read();
      if (done) return controller.close();
      seen += decoder.decode(value, { stream: true });
      controller.enqueue(value);
      if (seen.includes("three")) {
        lost = false;
        await reader.cancel();
        controller.error(new Error("connection lost"));
      }
    },
  });
  return new Response(body, response);
};
const cut = agentOf("assistant", randomUUID(), losing);
say(cut, "SAY one two three four five six\nPACE 0.1");
const runId = randomUUID();
try {
  await cut.runAgent({ runId });
  found.cut = "no error";
} catch (error) {
  found.cut = error.message;
}
await cut.runAgent({ runId });
found.whole = cut.messages.slice(1).map(({ content }) => content);

try {
  const nobody = agentOf("nobody");
  say(nobody, "hi");
  await nobody.runAgent();
} catch (error) {
  found.error = error.status;
}

found.warnings = warnings;
console.log(JSON.stringify(found));
process.exit(0);
