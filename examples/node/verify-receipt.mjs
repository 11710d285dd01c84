// Checks the proof that a receipt is in the log of a Restante, offline and trusting nobody but a key.
//
//   node verify-receipt.mjs proof.json 'receipts.example+0a1b2c3d+AVl...'
//
// The key is the log's, as its operator has published it (GET /v1/ledger/keys, better a copy on paper). Nothing of
// Restante is used here: SHA-256 and Ed25519 of Node.js, and what RFC 9162 (section 2.1.3.2) and C2SP's signed-note say.
// Exit code 0: it holds. 1: it does not. 2: it cannot be read.

import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";

const sha256 = (...parts) => createHash("sha256").update(Buffer.concat(parts)).digest();
const refuse = (why) => {
  console.error(`does not hold: ${why}`);
  process.exit(1);
};

const [file, key] = process.argv.slice(2);
if (!file || !key) {
  console.error("usage: node verify-receipt.mjs PROOF.json NAME+ID+KEY");
  process.exit(2);
}
let proof;
try {
  proof = JSON.parse(readFileSync(file, "utf8"));
} catch (error) {
  console.error(`cannot read ${file}: ${error.message}`);
  process.exit(2);
}

// -- the key: name+id+base64(type || 32 bytes) -------------------------------------------------------
const [name, id, ...rest] = key.split("+");
const encoded = Buffer.from(rest.join("+"), "base64");
if (encoded.length !== 33 || encoded[0] !== 1) refuse("that is no Ed25519 key of a log");
const keyId = sha256(Buffer.from(`${name}\n`), encoded).subarray(0, 4);
if (keyId.toString("hex") !== id) refuse("the key and its id do not belong together");
// What comes before the 32 bytes in SubjectPublicKeyInfo (RFC 8410).
const spki = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), encoded.subarray(1)]);
const publicKey = createPublicKey({ key: spki, format: "der", type: "spki" });

// -- the head: lines, a blank line, signatures -------------------------------------------------------
const blank = proof.checkpoint.lastIndexOf("\n\n");
if (blank < 0) refuse("there is no signed head");
const text = proof.checkpoint.slice(0, blank + 1);
const signed = proof.checkpoint
  .slice(blank + 2)
  .split("\n")
  .filter((line) => line.startsWith(`\u2014 ${name} `))
  .map((line) => Buffer.from(line.slice(name.length + 3), "base64"))
  .filter((data) => data.subarray(0, 4).equals(keyId))
  .map((data) => verify(null, Buffer.from(text), publicKey, data.subarray(4)));
if (!signed.length || !signed.every(Boolean)) refuse("the head is not signed with that key");
const [origin, sizeText, rootText, at] = text.split("\n");
if (origin !== name) refuse(`the head is of another log: ${origin}`);
const size = BigInt(sizeText);
const root = Buffer.from(rootText, "base64");

// -- the place: RFC 9162, 2.1.3.2 --------------------------------------------------------------------
const entry = Buffer.from(proof.entry, "base64");
let node = BigInt(proof.index);
if (node < 0n || node >= size) refuse("there is no such place in that log");
let last = size - 1n;
let hash = sha256(Buffer.from([0]), entry);
for (const one of proof.path.map((hex) => Buffer.from(hex, "hex"))) {
  if (last === 0n) refuse("the path is too long");
  if (node & 1n || node === last) {
    hash = sha256(Buffer.from([1]), one, hash);
    while (!(node & 1n) && node !== 0n) {
      node >>= 1n;
      last >>= 1n;
    }
  } else {
    hash = sha256(Buffer.from([1]), hash, one);
  }
  node >>= 1n;
  last >>= 1n;
}
if (last !== 0n || !hash.equals(root)) refuse("the receipt is not in that log as it stands here");

const receipt = JSON.parse(entry.toString("utf8"));
console.log(`holds: number ${proof.index} of the ${size} receipts of ${origin} as of ${at}`);
console.log(`${receipt.principal} ${receipt.outcome} ${receipt.notification} at ${receipt.at}`);
if (receipt.body_sha256) console.log(`over ${receipt.body_bytes} bytes with the SHA-256 ${receipt.body_sha256}`);
