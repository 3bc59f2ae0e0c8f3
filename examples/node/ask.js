// A few questions at once that travel in one batch: the ordinary SDK, one changed line.
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.OPENAI_BASE_URL ?? "http://127.0.0.1:3030/v1", // the one changed line
});
const timeout = 26 * 60 * 60 * 1000; // ms, with each call; the SDK's own 10 minutes are short for a batch
const model = process.env.OPENAI_MODEL ?? "gpt-6-luna";
const questions = ["Why is the sky blue?", "Why is grass green?", "Why is snow white?"];

async function ask(question) {
  const answer = await client.chat.completions.create(
    { model, messages: [{ role: "user", content: question }] },
    { timeout },
  );
  return answer.choices[0].message.content;
}

const answers = await Promise.all(questions.map(ask));
for (const [index, question] of questions.entries()) {
  console.log(`${question}\n  ${answers[index]}`);
}
