// One call with the npm package named first; prints what came of it.
//
// ask.mjs openai6|openai7 BASE_URL TIMEOUT_SECONDS MODEL CONTENT

const [name, baseURL, seconds, model, content] = process.argv.slice(2);
const { default: OpenAI } = await import(name);
const client = new OpenAI({ baseURL, timeout: Number(seconds) * 1000 });
let report;
try {
  const answer = await client.chat.completions.create({ model, messages: [{ role: "user", content }] });
  report = { id: answer.id, content: answer.choices[0].message.content, request_id: answer._request_id };
} catch (error) {
  report = { error: error.constructor.name, status: error.status ?? null, message: error.message };
}
console.log(JSON.stringify(report));
