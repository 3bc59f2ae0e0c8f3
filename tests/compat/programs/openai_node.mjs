// The calls of `openai` for Node.
//
// openai_node.mjs BASE_URL TIMEOUT_SECONDS CALL…; a time-out of 0 leaves the client its own.

const [baseURL, seconds, ...names] = process.argv.slice(2);
const { default: OpenAI } = await import("openai");
const client = new OpenAI({ baseURL, ...(Number(seconds) ? { timeout: Number(seconds) * 1000 } : {}) });
const MODEL = "gpt-4o-mini";
const SAY = 'say:{"name":"Ada","age":36}';
const asked = (content) => [{ role: "user", content }];
const properties = { name: { type: "string" }, age: { type: "integer" } };
const tool = { type: "function", function: { name: "person", parameters: { type: "object", properties } } };
const ask = async (text, more = {}, options = {}) =>
  (await client.chat.completions.create({ model: MODEL, messages: asked(text), ...more }, options)).choices[0].message;

const calls = {
  chat: async () => (await ask("chat")).content,
  tools: async () => (await ask(SAY, { tools: [tool] })).tool_calls[0].function.arguments,
  structured: async () => (await client.responses.parse({ model: MODEL, input: SAY })).output_text,
  stream: async () => {
    const events = client.chat.completions.stream({ model: MODEL, messages: asked("stream") });
    return (await events.finalChatCompletion()).choices[0].message.content;
  },
  embedding: async () =>
    (await client.embeddings.create({ model: "text-embedding-3-small", input: "embedding" })).data[0].embedding.length,
  error: async () => (await ask("error", { user: "fail-400" })).content,
  slow: async () => (await ask("slow")).content,
  // What README says to set: a time-out with the call.
  set: async () => (await ask("set", {}, { timeout: 60_000 })).content,
};
const report = {};
for (const name of names) {
  try {
    report[name] = { answer: String(await calls[name]()) };
  } catch (error) {
    report[name] = { status: error.status ?? null, error: `${error.constructor.name}: ${error.message}`.slice(0, 400) };
  }
}
console.log(JSON.stringify(report));
