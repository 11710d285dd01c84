// Checks what a Restante proves of its log of receipts, offline and trusting nobody but keys.
//
//   node verify-receipt.mjs proof.json 'receipts.example+0a1b2c3d+AVl...'
//   node verify-receipt.mjs --consistency old-head.txt new-head.txt consistency.json 'receipts.example+0a1b2c3d+AVl...'
//
// The first: the receipt is in the log (GET /v1/receipts/{id}/proof). The second: the log was only added to between two
// heads (GET /v1/ledger/head), by what GET /v1/ledger/consistency?from=N&to=M says of their sizes.
//
// A key is the log's, as its operator has published it (GET /v1/ledger/keys, better a copy on paper); of a log whose key
// was exchanged name both. Nothing of Restante is used here: SHA-256 and Ed25519 of Node.js, and what RFC 9162 (sections
// 2.1.3.2 and 2.1.4.2) and C2SP's signed-note say.
// Exit code 0: it holds. 1: it does not. 2: it cannot be read.

import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";

const sha256 = (...parts) => createHash("sha256").update(Buffer.concat(parts)).digest();
const leafHash = (entry) => sha256(Buffer.from([0]), entry);
const nodeHash = (left, right) => sha256(Buffer.from([1]), left, right);
const end = (code, why) => {
  console.error(why);
  process.exit(code);
};
const refuse = (why) => end(1, `does not hold: ${why}`);
const read = (file, parse) => {
  try {
    return parse(readFileSync(file, "utf8"));
  } catch (error) {
    return end(2, `cannot read ${file}: ${error.message}`);
  }
};

// -- a key: name+id+base64(type || 32 bytes) ---------------------------------------------------------
function readKey(text) {
  const [name, id, ...rest] = text.split("+");
  const encoded = Buffer.from(rest.join("+"), "base64");
  if (encoded.length !== 33 || encoded[0] !== 1) refuse("that is no Ed25519 key of a log");
  const keyId = sha256(Buffer.from(`${name}\n`), encoded).subarray(0, 4);
  if (keyId.toString("hex") !== id) refuse("the key and its id do not belong together");
  // What comes before the 32 bytes in SubjectPublicKeyInfo (RFC 8410).
  const spki = Buffer.concat([Buffer.from("302a300506032b6570032100", "hex"), encoded.subarray(1)]);
  return { name, keyId, publicKey: createPublicKey({ key: spki, format: "der", type: "spki" }) };
}

// -- a head: lines, a blank line, signatures ---------------------------------------------------------
function readHead(note, keys) {
  const blank = String(note).lastIndexOf("\n\n");
  if (blank < 0) refuse("there is no signed head");
  const text = note.slice(0, blank + 1);
  const lines = note.slice(blank + 2).split("\n");
  const signed = keys.flatMap(({ name, keyId, publicKey }) =>
    lines
      .filter((line) => line.startsWith(`\u2014 ${name} `))
      .map((line) => Buffer.from(line.slice(name.length + 3), "base64"))
      .filter((data) => data.subarray(0, 4).equals(keyId))
      .map((data) => verify(null, Buffer.from(text), publicKey, data.subarray(4))),
  );
  if (!signed.length || !signed.every(Boolean)) refuse("the head is not signed with that key");
  // What a key that is trusted has signed is as a log writes it.
  const [origin, size, root, at] = text.split("\n");
  return { origin, size: BigInt(size), root: Buffer.from(root, "base64"), at };
}

const hashes = (path) => (Array.isArray(path) ? path : []).map((hex) => Buffer.from(hex, "hex"));

// -- the place of a receipt: RFC 9162, 2.1.3.2 -------------------------------------------------------
function checkReceipt(proof, keys) {
  const { origin, size, root, at } = readHead(proof.checkpoint, keys);
  const entry = Buffer.from(proof.entry, "base64");
  let node = BigInt(proof.index);
  if (node < 0n || node >= size) refuse("there is no such place in that log");
  let last = size - 1n;
  let hash = leafHash(entry);
  for (const one of hashes(proof.path)) {
    if (last === 0n) refuse("the path is too long");
    if (node & 1n || node === last) {
      hash = nodeHash(one, hash);
      while (!(node & 1n) && node !== 0n) {
        node >>= 1n;
        last >>= 1n;
      }
    } else {
      hash = nodeHash(hash, one);
    }
    node >>= 1n;
    last >>= 1n;
  }
  if (last !== 0n || !hash.equals(root)) refuse("the receipt is not in that log as it stands here");

  const receipt = JSON.parse(entry.toString("utf8"));
  console.log(`holds: number ${proof.index} of the ${size} receipts of ${origin} as of ${at}`);
  console.log(`${receipt.principal} ${receipt.outcome} ${receipt.notification} at ${receipt.at}`);
  if (receipt.body_sha256) console.log(`over ${receipt.body_bytes} bytes with the SHA-256 ${receipt.body_sha256}`);
}

// -- the beginning of a log: RFC 9162, 2.1.4.2 -------------------------------------------------------
function checkConsistency(proof, older, newer, keys) {
  const [old, now] = [readHead(older, keys), readHead(newer, keys)];
  if (old.origin !== now.origin) refuse(`the heads are of two logs: ${old.origin}, ${now.origin}`);
  if (BigInt(proof.old) !== old.size || BigInt(proof.new) !== now.size) {
    refuse(`the proof is of ${proof.old} and ${proof.new} receipts, the heads are of ${old.size} and ${now.size}`);
  }
  if (old.size > now.size) refuse("the first head is of the longer log");
  const path = hashes(proof.path);
  if (old.size === now.size) {
    if (path.length || !old.root.equals(now.root)) refuse("the log of that size was another");
  } else if (old.size === 0n) {
    // An empty log is the beginning of each (2.1.1 has its root), without any hashes.
    if (path.length || !old.root.equals(sha256())) refuse("the older log was not empty");
  } else {
    // A complete tree is a node of the newer one, and not told again.
    if (!(old.size & (old.size - 1n))) path.unshift(old.root);
    if (!path.length) refuse("the path is too short");
    let node = old.size - 1n;
    let last = now.size - 1n;
    while (node & 1n) {
      node >>= 1n;
      last >>= 1n;
    }
    let [before, after] = [path[0], path[0]];
    for (const one of path.slice(1)) {
      if (last === 0n) refuse("the path is too long");
      if (node & 1n || node === last) {
        before = nodeHash(one, before);
        after = nodeHash(one, after);
        while (!(node & 1n) && node !== 0n) {
          node >>= 1n;
          last >>= 1n;
        }
      } else {
        after = nodeHash(after, one);
      }
      node >>= 1n;
      last >>= 1n;
    }
    if (last !== 0n || !before.equals(old.root) || !after.equals(now.root)) {
      refuse("the older log is not the beginning of the newer one");
    }
  }
  console.log(`holds: the ${old.size} receipts of ${old.origin} as of ${old.at} are the first of the ${now.size} of ${now.at}`);
}

const [first, ...rest] = process.argv.slice(2);
if (first === "--consistency" && rest.length >= 4) {
  const [older, newer, proof, ...keys] = rest;
  const heads = [older, newer].map((file) => read(file, String));
  checkConsistency(read(proof, JSON.parse), ...heads, keys.map(readKey));
} else if (first !== "--consistency" && rest.length >= 1) {
  checkReceipt(read(first, JSON.parse), rest.map(readKey));
} else {
  end(2, "usage: node verify-receipt.mjs PROOF.json KEY...\n       node verify-receipt.mjs --consistency OLD NEW PROOF.json KEY...");
}
