// Collects a queue by server-sent events, and signs by HTTP calls. Needs Node.js 18 or later, and `npm install eventsource`.
//
//   URL=http://127.0.0.1:7070 QUEUE=acme KEY=rst_... node eventsource.mjs
//
// The events are described in /asyncapi.yaml on the server, the calls in /openapi.yaml.
import { EventSource } from "eventsource";

const { URL: url = "http://127.0.0.1:7070", QUEUE: queue, KEY: key } = process.env;
const authorization = { Authorization: `Bearer ${key}` };

// What comes again is recognised by its id. In your system this is a table of your database.
const booked = new Map();

// Your part. Its answer goes into the receipt; throw, and the notification comes again later.
async function book(notification) {
  if (!notification.body?.startsWith("<")) throw new Error("this is not XML");
  return `<booked number="${booked.size + 1}"/>`;
}

async function settle(lease, verb, type, body) {
  const headers = { ...authorization, "Content-Type": type };
  const answer = await fetch(`${url}/v1/leases/${lease}/${verb}`, { method: "POST", headers, body });
  if (!answer.ok) console.error(verb, (await answer.json()).detail);
}

async function collect(event) {
  const notification = JSON.parse(event.data);
  const { id, lease, attempt } = notification;
  let reply;
  try {
    if (!booked.has(id)) booked.set(id, await book(notification));
    reply = booked.get(id);
  } catch (error) {
    console.log("failed", id, lease, attempt);
    return settle(lease, "nack", "application/json", JSON.stringify({ reason: error.message }));
  }
  console.log("booked", id, lease, attempt);
  return settle(lease, "ack", "application/xml", reply);
}

function connect(lastEventId = "") {
  const source = new EventSource(`${url}/v1/queues/${queue}/events?credit=10`, {
    // This is where the key goes in. The package sends Last-Event-ID by itself when it comes back.
    fetch: (address, options) => {
      const resume = lastEventId ? { "Last-Event-ID": lastEventId } : {};
      return fetch(address, { ...options, headers: { ...resume, ...options.headers, ...authorization } });
    },
  });
  for (const kind of ["attached", "notification"]) {
    source.addEventListener(kind, (event) => {
      lastEventId = event.lastEventId;
    });
  }
  source.addEventListener("notification", (event) => {
    // The service cannot be reached just now? Then it comes again.
    collect(event).catch((error) => console.error(error.message));
  });
  source.addEventListener("error", (error) => {
    console.error(error.message);
    // A broken connection mends itself; after a refusal (a wrong key, say) EventSource gives up, and we do not.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 10_000, lastEventId);
  });
}

connect();
