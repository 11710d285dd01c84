// Verifies calls of webhooks by the verifiers that vendors use: one JSON document a line on stdin, one verdict a line.
import { createInterface } from "node:readline";
import { Webhook as Standard } from "standardwebhooks";
import { Webhook as Svix } from "svix";

function verdict(Verifier, { secret, headers, body }) {
  try {
    new Verifier(secret).verify(Buffer.from(body, "base64").toString(), headers);
    return "ok";
  } catch (error) {
    // A body that is no JSON is looked at only after its signature has been found right.
    return error instanceof SyntaxError ? "ok" : error.message;
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const call = JSON.parse(line);
  console.log(JSON.stringify({ standardwebhooks: verdict(Standard, call), svix: verdict(Svix, call) }));
}
