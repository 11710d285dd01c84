// Collects a queue over a WebSocket. Needs Node.js 18 or later, and `npm install ws`.
//
//   URL=http://127.0.0.1:7070 QUEUE=acme KEY=rst_... node ws.mjs
//
// The frames are described in /asyncapi.yaml on the server.
import WebSocket from "ws";

const { URL: url = "http://127.0.0.1:7070", QUEUE: queue, KEY: key } = process.env;
const address = `${url.replace(/^http/, "ws")}/v1/queues/${queue}/socket`;

// What comes again is recognised by its id. In your system this is a table of your database.
const booked = new Map();

// Your part. Its answer goes into the receipt; throw, and the notification comes again later.
async function book(notification) {
  if (!notification.body?.startsWith("<")) throw new Error("this is not XML");
  return `<booked number="${booked.size + 1}"/>`;
}

let pauseSeconds = 1;

function connect() {
  const socket = new WebSocket(address, "restante.v1", { headers: { Authorization: `Bearer ${key}` } });
  let unanswered = 0;
  let comeBackAfterSeconds;
  let silence;

  function settle(frame) {
    // Closed meanwhile? Then it comes again.
    if (socket.readyState !== WebSocket.OPEN) return;
    unanswered += 1;
    socket.send(JSON.stringify(frame));
  }

  async function collect(notification) {
    const { id, lease, attempt } = notification;
    try {
      if (!booked.has(id)) booked.set(id, await book(notification));
      console.log("booked", id, lease, attempt);
      const reply = { reply: booked.get(id), reply_content_type: "application/xml" };
      settle({ type: "ack", items: [{ lease, ...reply }] });
    } catch (error) {
      console.log("failed", id, lease, attempt);
      settle({ type: "nack", items: [{ lease, reason: error.message }] });
    }
  }

  // The service pings every 15 seconds: after 40 of silence the connection is gone, whatever TCP says.
  function heard() {
    clearTimeout(silence);
    silence = setTimeout(() => socket.terminate(), 40_000);
  }

  socket.on("open", () => {
    pauseSeconds = 1;
    heard();
    // Up to ten may be with us and unsettled; each settle makes room for the next.
    socket.send(JSON.stringify({ type: "credit", messages: 10 }));
  });
  socket.on("ping", heard);
  socket.on("message", (data) => {
    const frame = JSON.parse(data);
    switch (frame.type) {
      case "notifications":
        frame.notifications.forEach(collect);
        break;
      case "settled":
        unanswered -= 1;
        // "lease_lost", for example: it took too long, and comes again or is with somebody else.
        for (const item of frame.items.filter((item) => !item.ok)) console.error(item.code, item.detail);
        break;
      case "error":
        console.error(frame.code, frame.detail);
        break;
      case "drain":
        comeBackAfterSeconds = frame.reconnect_after_seconds;
        break;
    }
    if (comeBackAfterSeconds && unanswered === 0) socket.close();
  });
  socket.on("error", (error) => console.error(error.message));
  socket.on("close", () => {
    clearTimeout(silence);
    setTimeout(connect, 1000 * (comeBackAfterSeconds ?? pauseSeconds));
    pauseSeconds = Math.min(2 * pauseSeconds, 60);
  });
}

connect();
