// Collects a queue by long poll, and signs each ack with a key of its own. Needs Node.js 18 and nothing else.
//
// URL=http://127.0.0.1:7070 QUEUE=acme KEY=rst_... SIGNING_KEY=private.pem node signed.mjs

import {createHash, createPrivateKey, createPublicKey, sign} from "node:crypto";
import {readFileSync} from "node:fs";
import {setTimeout as sleep} from "node:timers/promises";

const {URL: url, QUEUE: queue, KEY: key, SIGNING_KEY: file} = process.env;
const privateKey = createPrivateKey(readFileSync(file));
const keyId = sha256(createPublicKey(privateKey).export({type: "spki", format: "der"}));

function sha256(data) {
    return createHash("sha256").update(data).digest("hex");
}

// Ed25519 as it is; for ECDSA give "sha256" in place of null, and for RSA the padding of PSS with a salt of 32 bytes too.
function signature(notification, outcome, said) {
    const body = notification.body ?? Buffer.from(notification.body_base64, "base64");
    const digest = sha256(body);
    const at = new Date().toISOString();
    const lines = [
        "restante receipt signature v1", notification.id, digest, queue, outcome, sha256(said), at, keyId,
    ];
    const value = sign(null, Buffer.from(lines.map((line) => `${line}\n`).join("")), privateKey);
    return {key: keyId, at, notification: notification.id, body_sha256: digest, value: value.toString("base64")};
}

async function receive(settle) {
    const answer = await fetch(`${url}/v1/queues/${queue}/receive`, {
        method: "POST",
        headers: {Authorization: `Bearer ${key}`, "Content-Type": "application/json"},
        body: JSON.stringify(settle.length ? {wait: 20, settle} : {wait: 20}),
    });
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
}

let settle = [];
for (;;) {
    try {
        // What was booked is signed for on the way to the next: each round is one request.
        const {notifications, settled = []} = await receive(settle);
        for (const {ok, detail} of settled) if (!ok) console.log(detail);
        settle = notifications.map((notification) => {
            // Process it here, and remember its id: it may come again.
            console.log(`booked ${notification.id} ${notification.lease} ${notification.attempt}`);
            const reply = "<booked/>";
            return {
                lease: notification.lease,
                outcome: "ack",
                reply,
                reply_content_type: "application/xml",
                signature: signature(notification, "acked", reply),
            };
        });
    } catch (error) {
        console.log(String(error));
        await sleep(2000);
    }
}
