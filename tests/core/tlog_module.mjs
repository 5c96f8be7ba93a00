// Checks the proofs of the console in node: published vectors, a literal reference, altered answers.

import assert from "node:assert/strict";
import { createHash, webcrypto } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import test from "node:test";

globalThis.crypto ??= webcrypto;

const folder = process.env.STATIC_FOLDER;
const tlog = await import(join(folder, "tlog.js"));
const vectors = JSON.parse(readFileSync(process.env.VECTORS));
const { hex, Unproven } = tlog;

const bytesOf = (text) => Uint8Array.from(Buffer.from(text, "hex"));
const utf8 = (text) => new TextEncoder().encode(text);
const sha256 = (...parts) => createHash("sha256").update(Buffer.concat(parts)).digest();

// The definitions of RFC 6962, 2.1, word for word. D[start:stop] are the leaf hashes.
const joined = (left, right) => sha256(Buffer.of(1), left, right);
function root(leaves) {
  if (leaves.length === 0) return sha256();
  if (leaves.length === 1) return leaves[0];
  let k = 1;
  while (k * 2 < leaves.length) k *= 2;
  return joined(root(leaves.slice(0, k)), root(leaves.slice(k)));
}
const leavesOf = (count) =>
  Array.from({ length: count }, (_, n) => sha256(Buffer.of(0), Buffer.from(`entry ${n}`)));
const LEAVES = leavesOf(66_000);
const levels = [LEAVES];
while (levels.at(-1).length >= 256) {
  const below = levels.at(-1);
  const full = Math.floor(below.length / 256);
  levels.push(Array.from({ length: full }, (_, n) => root(below.slice(n * 256, n * 256 + 256))));
}
const heads = new Map();
function head(size) {
  if (!heads.has(size)) heads.set(size, { size, root: Uint8Array.from(root(LEAVES.slice(0, size))) });
  return heads.get(size);
}
function served(path) {
  const [, level, number, width] = /^(\d+)\/((?:x\d{3}\/)*\d{3})(?:\.p\/(\d+))?$/.exec(path);
  const first = Number(number.replace(/x|\//g, "")) * 256;
  const hashes = levels[level].slice(first, first + Number(width ?? 256));
  return Promise.resolve(Uint8Array.from(Buffer.concat(hashes)));
}
const tree = (size) => new tlog.TiledTree(size, served);
const inclusion = (position, size) => tree(size).roots(tlog.inclusionRanges(position, size));
const consistency = (old, size) => tree(size).roots(tlog.consistencyRanges(old, size));
const leaf = (position) => Uint8Array.from(LEAVES[position]);

const SIZES = [1, 2, 3, 7, 8, 255, 256, 257, 511, 513, 65_537];
const inside = (size) => [...new Set([0, 1, 255, 256, size >> 1, size - 1])].filter((p) => p < size);

test("leaf hashes and roots are the published ones", async () => {
  const entries = vectors.leaves_hex.map(bytesOf);
  for (const [n, entry] of entries.entries()) {
    assert.equal(hex(await tlog.leafHash(entry)), vectors.leaf_hash[n]);
  }
  const leaves = vectors.leaf_hash.map(bytesOf);
  for (const [size, wanted] of Object.entries(vectors.root)) {
    assert.equal(hex(root(leaves.slice(0, size))), wanted);
  }
});

test("published proofs verify, and fail with any bit changed", async () => {
  const leaves = vectors.leaf_hash.map(bytesOf);
  const headOf = (size) => ({ size, root: bytesOf(vectors.root[size]) });
  for (const [name, proof] of Object.entries(vectors.inclusion)) {
    const [position, size] = name.split("/").map(Number);
    const path = proof.map(bytesOf);
    await tlog.verifyInclusion(path, position, leaves[position], headOf(size));
    for (const altered of alteredProofs(path)) {
      await assert.rejects(
        tlog.verifyInclusion(altered, position, leaves[position], headOf(size)), Unproven);
    }
  }
  for (const [name, proof] of Object.entries(vectors.consistency)) {
    const [old, size] = name.split("->").map(Number);
    const path = proof.map(bytesOf);
    await tlog.verifyConsistency(path, headOf(old), headOf(size));
    for (const altered of alteredProofs(path)) {
      await assert.rejects(tlog.verifyConsistency(altered, headOf(old), headOf(size)), Unproven);
    }
  }
});

function* alteredProofs(proof) {
  yield [...proof, new Uint8Array(32)];
  for (const n of proof.keys()) {
    yield proof.filter((_, at) => at !== n);
    for (const at of [0, 31]) {
      const altered = proof.map((each) => each.slice());
      altered[n][at] ^= 1;
      yield altered;
    }
  }
}

test("proofs made of tiles verify at every edge of the tiles", async () => {
  for (const size of SIZES) {
    for (const position of inside(size)) {
      const proof = await inclusion(position, size);
      const path = await tlog.verifyInclusion(proof, position, leaf(position), head(size));
      assert.equal(path.length, proof.length);
    }
    for (const old of SIZES.filter((each) => each <= size)) {
      await tlog.verifyConsistency(await consistency(old, size), head(old), head(size));
    }
  }
});

test("another entry, position, size or root does not verify", async () => {
  const size = 513;
  for (const position of inside(size)) {
    const proof = await inclusion(position, size);
    const refused = (...given) => assert.rejects(tlog.verifyInclusion(...given), Unproven);
    await refused(proof, position, leaf((position + 1) % size), head(size));
    await refused(proof, position + 1, leaf(position), head(size));
    await refused(proof, -1, leaf(position), head(size));
    await refused(proof, size, leaf(position), head(size));
    await refused(proof, position, leaf(position), { size, root: head(512).root });
    await refused(proof, position, leaf(position), { size: size * 2, root: head(size).root });
  }
});

test("a log that was cut, forked or emptied is not consistent", async () => {
  const refused = (...given) => assert.rejects(tlog.verifyConsistency(...given), Unproven);
  for (const [old, size] of [[3, 7], [256, 513], [257, 65_537], [7, 7]]) {
    const forked = { size: old, root: head(old + 1).root };
    await refused(await consistency(old, size), forked, head(size));
    await refused([], head(size), head(old - 1));
  }
  await refused([], { size: 0, root: head(1).root }, head(7));
  await tlog.verifyConsistency([], { size: 0, root: bytesOf(tlog.EMPTY_ROOT) }, head(7));
});

test("a tile of another length is refused", async () => {
  const short = new tlog.TiledTree(513, async (path) => (await served(path)).slice(32));
  await assert.rejects(short.roots([{ start: 0, stop: 256 }]), Unproven);
});

test("paths and widths of tiles are the published ones", () => {
  for (const [number, path] of Object.entries(vectors.paths)) {
    assert.equal(tlog.tilePath(Number(number)), path);
  }
  assert.equal(tlog.tilePath(1234067, 8), "x001/x234/067.p/8");
  for (const [level, [full, width]] of Object.entries(vectors.tiles_70000)) {
    assert.equal(tlog.tileWidth(Number(level), full, 70_000), width);
    if (full > 0) assert.equal(tlog.tileWidth(Number(level), full - 1, 70_000), 256);
  }
});

test("a bundle has its entries, and a cut one is refused", () => {
  const bundle = bytesOf(vectors.bundle_abc__hello);
  const texts = tlog.entriesOf(bundle).map((entry) => new TextDecoder().decode(entry));
  assert.deepEqual(texts, ["abc", "", "hello"]);
  for (const length of [1, 4, 6, bundle.length - 1]) {
    assert.throws(() => tlog.entriesOf(bundle.slice(0, length)), Unproven);
  }
});

test("published checkpoints verify with their key", async () => {
  const key = await tlog.readKey(vectors.vkey);
  assert.equal(hex(key.id), vectors.key_id);
  for (const size of [0, 3]) {
    const checkpoint = await tlog.verifyNote(vectors[`checkpoint_${size}`], key);
    assert.equal(checkpoint.size, size);
    assert.equal(hex(checkpoint.root), vectors.root[size] ?? hex(checkpoint.root));
  }
});

const note = vectors.checkpoint_3;
const otherKey = "fleetlog.example/log1+00000000+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
const NOTES = {
  "another size": note.replace("\n3\n", "\n4\n"),
  "another origin": note.replace("fleetlog.example/log1\n3", "fleetlog.example/log2\n3"),
  "another root": note.replace("rra8", "rrb8"),
  "no signature": note.slice(0, note.indexOf("\u2014")),
  "a cut signature": note.replace("CiACw0=\n", "\n"),
  "the signature of another name": note.replace("\u2014 fleetlog", "\u2014 other"),
  "a signature with loose last bits": note.replace("CiACw0=", "CiACw1="),
  "a control character": note.replace("\n3\n", "\n3\r\n"),
  "a text after the signature": `${note}more`,
  "no text": "\n",
  "nothing": "",
  "too many signatures": note + `${note.split("\n\n")[1]}`.repeat(64),
};
for (const [what, altered] of Object.entries(NOTES)) {
  test(`a note with ${what} is refused`, async () => {
    assert.notEqual(altered, note);
    const key = await tlog.readKey(vectors.vkey);
    await assert.rejects(tlog.verifyNote(altered, key), Unproven);
  });
}

test("a note that others signed too is accepted", async () => {
  const key = await tlog.readKey(vectors.vkey);
  const cosigned = `${note}\u2014 witness.example AAAAAAEC\n`;
  assert.equal((await tlog.verifyNote(cosigned, key)).size, 3);
});

test("a verifier key that does not belong to its id is refused", async () => {
  for (const line of [otherKey, vectors.vkey.replace("log1", "log2"), "", "a+b+c", vectors.skey]) {
    await assert.rejects(tlog.readKey(line), Unproven);
  }
});

test("without Ed25519 in the browser, the library decides the same", async () => {
  const key = await tlog.readKey(vectors.vkey);
  const { subtle } = globalThis.crypto;
  const { importKey } = subtle;
  subtle.importKey = async () => {
    throw new DOMException("Ed25519", "NotSupportedError");
  };
  try {
    assert.equal((await tlog.verifyNote(note, key)).size, 3);
    await assert.rejects(tlog.verifyNote(NOTES["another size"], key), Unproven);
  } finally {
    subtle.importKey = importKey;
  }
});

test("the receipt has the form of C2SP", async () => {
  const proof = vectors.inclusion["2/3"].map(bytesOf);
  const lines = tlog.proofText(2, proof, note).split("\n");
  assert.deepEqual(lines.slice(0, 2), ["c2sp.org/tlog-proof@v1", "index 2"]);
  assert.equal(Buffer.from(lines[2], "base64").toString("hex"), vectors.inclusion["2/3"][0]);
  assert.equal(lines[3], "");
  assert.equal(lines.slice(4).join("\n"), note);
});
