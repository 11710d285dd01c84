// Collects a queue over gRPC. Needs Node.js 18 or later, and `npm install @grpc/grpc-js @grpc/proto-loader`.
//
//   URL=http://127.0.0.1:7070 GRPC=127.0.0.1:7072 QUEUE=acme KEY=rst_... node grpc.mjs
//
// All that it knows of the service is in /restante.proto on the server.
import { mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const { URL: url = "http://127.0.0.1:7070", GRPC: address = "127.0.0.1:7072", QUEUE: queue, KEY: key } = process.env;

const file = join(await mkdtemp(join(tmpdir(), "restante-")), "restante.proto");
await writeFile(file, await (await fetch(`${url}/restante.proto`)).text());
const { Delivery } = grpc.loadPackageDefinition(protoLoader.loadSync(file, { arrays: true })).restante.v1;
// Between companies: grpc.credentials.createSsl().
const service = new Delivery(address, grpc.credentials.createInsecure(), {
  "grpc.max_reconnect_backoff_ms": 5_000,
});
const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${key}`);

// What comes again is recognised by its id. In your system this is a table of your database.
const booked = new Map();

// Your part. Its answer goes into the receipt; throw, and the notification comes again later.
async function book(notification) {
  if (!notification.body.toString().startsWith("<")) throw new Error("this is not XML");
  return `<booked number="${booked.size + 1}"/>`;
}

let pauseSeconds = 1;
let resume = "";

function connect() {
  const call = service.Receive(metadata);
  let unanswered = 0;
  let comeBackAfterSeconds;
  let silence;

  function settle(item) {
    unanswered += 1;
    // Ended meanwhile? Then it comes again.
    call.write({ settle: [item] });
  }

  async function collect(notification) {
    const { id, lease, attempt } = notification;
    try {
      if (!booked.has(id)) booked.set(id, await book(notification));
      console.log("booked", id, lease, attempt);
      settle({ lease, ack: { reply: Buffer.from(booked.get(id)), replyContentType: "application/xml" } });
    } catch (error) {
      console.log("failed", id, lease, attempt);
      settle({ lease, nack: { reason: error.message } });
    }
  }

  // The service says something every 45 seconds: after 100 of silence the stream is gone, whatever TCP says.
  function heard() {
    clearTimeout(silence);
    silence = setTimeout(() => call.cancel(), 100_000);
  }

  heard();
  // Up to ten may be with us and unsettled; each settle makes room for the next. What we held before comes first.
  call.write({ queue, credit: { messages: 10 }, resume });
  call.on("data", (response) => {
    heard();
    if (response.attached) {
      pauseSeconds = 1;
      resume = response.attached.resume;
    }
    response.notifications.forEach(collect);
    for (const answer of response.answers) {
      unanswered -= 1;
      // "lease_lost", for example: it took too long, and comes again or is with somebody else.
      for (const { problem } of [answer, ...answer.results]) if (problem) console.error(problem.code, problem.detail);
    }
    if (response.drain) comeBackAfterSeconds = response.drain.reconnectAfterSeconds;
    if (comeBackAfterSeconds && unanswered === 0) call.end();
  });
  call.on("error", (error) => console.error(error.message));
  call.on("status", () => {
    clearTimeout(silence);
    setTimeout(connect, 1000 * (comeBackAfterSeconds ?? pauseSeconds * (0.5 + Math.random() / 2)));
    pauseSeconds = Math.min(2 * pauseSeconds, 60);
  });
}

connect();
