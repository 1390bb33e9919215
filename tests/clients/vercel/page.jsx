// A page with useChat on a gateway: page.html?api=http://127.0.0.1:8000#chat-id
// The test types into it and presses its buttons; `calls` has the tools' parts.

import { useState } from "react";
import { createRoot } from "react-dom/client";
import { useChat } from "@ai-sdk/react";
import {
  DefaultChatTransport,
  getToolName,
  isToolUIPart,
  lastAssistantMessageIsCompleteWithApprovalResponses,
} from "ai";

const id = location.hash.slice(1);
const api = `${new URLSearchParams(location.search).get("api")}/v1/vercel/chat`;
const transportOf = (seen) => new DefaultChatTransport({
  api,
  prepareSendMessagesRequest: ({ body, ...rest }) => ({
    body: { ...body, agent: "cashier", id, messages: rest.messages.slice(-2),
            trigger: rest.trigger, messageId: rest.messageId },
  }),
  prepareReconnectToStreamRequest: ({ id }) => ({ api: `${api}/${id}/stream${seen ? `?after=${seen}` : ""}` }),
});

function Chat({ initial }) {
  const [text, setText] = useState("");
  const [transport] = useState(() => transportOf(initial.at(-1)?.id));
  const { messages, sendMessage, regenerate, status, error, addToolApprovalResponse } = useChat({
    id,
    messages: initial,
    resume: true,
    transport,
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
  });
  return (
    <main>
      {messages.map((message) => (
        <article key={message.id} id={message.id} className={message.role}>
          {message.parts.map((part, place) => {
            if (part.type === "text" && !part.providerMetadata?.sessionfleet?.withdrawn)
              return <p key={place}>{part.text}</p>;
            if (!isToolUIPart(part)) return null;
            return (
              <section key={place} className={part.state}>
                {getToolName(part)}
                {part.state === "approval-requested" &&
                  [true, false].map((approved) => (
                    <button
                      key={`${approved}`}
                      className={approved ? "approve" : "deny"}
                      onClick={() => addToolApprovalResponse({ id: part.approval.id, approved })}
                    />
                  ))}
              </section>
            );
          })}
        </article>
      ))}
      <form onSubmit={(event) => { event.preventDefault(); sendMessage({ text }); setText(""); }}>
        <textarea value={text} onChange={(event) => setText(event.target.value)} autoFocus />
        <button id="send" disabled={status === "submitted" || status === "streaming"} />
        <button id="again" type="button" onClick={() => regenerate()} />
        <button id="stop" type="button" onClick={() => fetch(`${api}/${id}/stream`, { method: "DELETE" })} />
      </form>
      <output>{error ? `error: ${error.message}` : status}</output>
    </main>
  );
}

const initial = await (await fetch(`${api}/${id}/messages`)).json();
createRoot(document.querySelector("#root")).render(<Chat initial={initial} />);
