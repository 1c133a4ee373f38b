// Drives the gateway with OpenAI's npm package and prints what the client made of the answers, as one JSON object.
// Environment: BASE_URL (…/v1), KEY, MODEL.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.KEY, maxRetries: 0 });
const model = process.env.MODEL;
const messages = [{ role: "user", content: "Why is the sky blue? One sentence." }];

const found = { pieces: [], finish: null, usage: null, events: [], refused: null };

const stream = await client.chat.completions.create({
  model, messages, stream: true, stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  const choice = chunk.choices[0];
  if (choice?.delta?.content) found.pieces.push(choice.delta.content);
  found.finish = choice?.finish_reason ?? found.finish;
  found.usage = chunk.usage ?? found.usage;
}

const events = await client.responses.create({ model, input: messages[0].content, stream: true });
for await (const event of events) found.events.push(event.type);

try {
  await client.chat.completions.create({ model: "nope", messages });
} catch (error) {
  found.refused = [error.constructor.name, error.status, error.code];
}

process.stdout.write(JSON.stringify(found));
