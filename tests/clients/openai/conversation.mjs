// OpenAI's client for JavaScript on a gateway: node conversation.mjs http://127.0.0.1:8000/v1
// Prints one JSON object with what each part came to.

import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none needed", maxRetries: 0 });
const model = "assistant";
const user = (content) => ({ role: "user", content });
const parameters = { type: "object", properties: { city: { type: "string" } } };
const found = {};

async function all(iterable) {
  const items = [];
  for await (const item of iterable) items.push(item);
  return items;
}

found.models = (await all(client.models.list())).map((each) => each.id);

const chunks = await all(
  await client.chat.completions.create({ model, messages: [user("SAY one two three")], stream: true }),
);
found.chat = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join("");

const weather = { type: "function", function: { name: "weather", description: "The weather.", parameters } };
const messages = [user('CALL weather({"city": "Rome"})')];
const called = (await client.chat.completions.create({ model, messages, tools: [weather] })).choices[0].message;
messages.push(called, { role: "tool", tool_call_id: called.tool_calls[0].id, content: "rain" });
found.tool = (await client.chat.completions.create({ model, messages, tools: [weather] })).choices[0].message.content;

const conversation = await client.conversations.create({
  items: [user("My name is Alice"), { role: "assistant", content: "Hello Alice" }],
});
const events = await all(
  await client.responses.create({ model, input: "RECITE", conversation: conversation.id, stream: true }),
);
const response = events.at(-1).response;
found.response = response.output_text ?? response.output[0].content[0].text;
const rest = await all(await client.responses.retrieve(response.id, { stream: true, starting_after: 3 }));
found.resumed = JSON.stringify(rest) === JSON.stringify(events.slice(4));
found.follows = (
  await client.responses.create({ model, input: "SAY good bye", previous_response_id: response.id })
).output_text;
found.items = (await all(client.conversations.items.list(conversation.id, { order: "asc" }))).length;

try {
  await client.chat.completions.create({ model: "gpt-x", messages: [user("hi")] });
} catch (error) {
  found.error = [error.constructor.name, error.status, error.code];
}

console.log(JSON.stringify(found));
