// The transport of Vercel's AI SDK on a gateway: node conversation.mjs http://127.0.0.1:8000
// Prints one JSON object with what each part came to.

import { DefaultChatTransport, readUIMessageStream, validateUIMessages } from "ai";

const api = `${process.argv[2]}/v1/vercel/chat`;
const transport = new DefaultChatTransport({ api });
const chatId = `npm-${crypto.randomUUID()}`;
const user = (id, text) => ({ id, role: "user", parts: [{ type: "text", text }] });
const text = (message) => message.parts.filter((part) => part.type === "text").map((part) => part.text).join("");
const found = {};

async function last(stream, message) {
  let answer;
  for await (const state of readUIMessageStream({ stream, message, terminateOnError: true })) answer = state;
  return answer;
}

async function send(messages, { trigger = "submit-message", messageId, body, message } = {}) {
  return last(await transport.sendMessages({ chatId, messages, trigger, messageId, body }), message);
}

const messages = async () => {
  const initial = await (await fetch(`${api}/${chatId}/messages`)).json();
  return initial.length ? validateUIMessages({ messages: initial }) : initial;
};

found.empty = await messages();
found.idle = await transport.reconnectToStream({ chatId });
const first = await send([user("a", "SAY one two three")]);
found.chat = [text(first), first.metadata.agent, first.metadata.usage.totalTokens > 0];

const slow = await transport.sendMessages({
  chatId, messages: [user("b", "SAY slow answer\nPACE 0.3")], trigger: "submit-message",
});
await slow.cancel();
found.question = (await messages()).length;
found.resumed = text(await last(await transport.reconnectToStream({ chatId })));

const weather = { name: "weather", inputSchema: { type: "object", properties: { city: { type: "string" } } } };
const asked = await send([user("c", 'CALL weather({"city": "Rome"})')], { body: { tools: [weather] } });
const call = asked.parts.at(-1);
found.asked = [call.type, call.state, call.input.city];
Object.assign(call, { state: "output-available", output: "rain" });
found.tool = text(await send([asked], { message: asked }));

found.again = text(await send([user("a", "SAY one two three")], { trigger: "regenerate-message", messageId: first.id }));
found.history = (await messages()).map((message) => message.role);
try {
  await send([user("d", "SAY x")], { body: { agent: "nobody" } });
} catch (error) {
  found.error = [error.statusCode, JSON.parse(error.message).status];
}
try {
  await send([user("e", "FAIL 400 9")]);
} catch (error) {
  found.failed = error.message.length > 0;
}

console.log(JSON.stringify(found));
