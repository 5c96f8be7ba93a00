/**
 * Verifies a transparency log in the browser: RFC 6962 trees, C2SP signed notes and tlog-tiles.
 *
 * Everything is computed from bytes, and nothing is believed that does not lead to a signed root.
 * A proof is a list of ranges of leaves, which follow from positions and sizes alone; their roots
 * are made from tiles. Sizes are numbers below 2 ** 53, so no bit operation is used on them.
 */

export const TILE_WIDTH = 256;
const TILE_HEIGHT = 8;
const HASH_BYTES = 32;
const ED25519 = 1;
const KEY_ID_BYTES = 4;
const NOTE_CHARACTERS_MAX = 64 * 1024;
const SIGNATURES_MAX = 64;

/** Says that bytes are not what the log's key signed. A network that fails is another error. */
export class Unproven extends Error {}

const text = new TextEncoder();

// Hashes: RFC 6962, 2.1.

export async function sha256(...parts) {
  const joined = joinBytes(parts);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", joined));
}

/** Returns the hash of an entry, from the bytes of its line. */
export const leafHash = (entry) => sha256(Uint8Array.of(0), entry);

export const nodeHash = (left, right) => sha256(Uint8Array.of(1), left, right);

export const EMPTY_ROOT = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

function joinBytes(parts) {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

export const isSame = (some, others) => hex(some) === hex(others);

export const base64 = (bytes) => btoa(String.fromCharCode(...bytes));

/** Returns the bytes of a base64 text. Throws `Unproven` unless it is their one canonical text. */
export function fromBase64(encoded) {
  try {
    const bytes = Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));
    if (base64(bytes) === encoded) return bytes;
  } catch (error) {
    if (!(error instanceof DOMException)) throw error;
  }
  throw new Unproven("A part of the answer is not base64.");
}

// Proofs: RFC 6962, 2.1.1 and 2.1.2. A range holds the leaves at start <= position < stop.

/** Splits a range at the largest power of two that is smaller than its number of leaves. */
function halves({ start, stop }) {
  let width = 1;
  while (width * 2 < stop - start) width *= 2;
  return [{ start, stop: start + width }, { start: start + width, stop }];
}

/** Returns the ranges whose roots lead from a leaf to the root of a tree, the leaf's side first. */
export function inclusionRanges(position, size) {
  const ranges = [];
  let whole = { start: 0, stop: size };
  while (whole.stop - whole.start > 1) {
    const [left, right] = halves(whole);
    const isLeft = position < left.stop;
    ranges.unshift(isLeft ? right : left);
    whole = isLeft ? left : right;
  }
  return ranges;
}

/** Returns the ranges whose roots show that a tree of `size` grew from one of `old` leaves. */
export function consistencyRanges(old, size) {
  if (old === 0) return [];
  const ranges = [];
  let whole = { start: 0, stop: size };
  while (whole.stop > old) {
    const [left, right] = halves(whole);
    const isLeft = old <= left.stop;
    ranges.unshift(isLeft ? right : left);
    whole = isLeft ? left : right;
  }
  if (whole.start > 0) ranges.unshift(whole); // else it is the old tree, whose root is known
  return ranges;
}

/**
 * Returns every node from the leaf to the root as `proof` computes them: each with the `sibling`
 * that it was joined with, and whether the sibling is to its right.
 */
export async function pathFrom(leaf, position, size, proof) {
  const ranges = inclusionRanges(position, size);
  if (position < 0 || position >= size || proof.length !== ranges.length) {
    throw new Unproven(`A proof of position ${position} in a tree of ${size} has another length.`);
  }
  const path = [];
  let node = leaf;
  for (const [n, sibling] of proof.entries()) {
    const isRight = ranges[n].start > position;
    path.push({ node, sibling, isRight, range: ranges[n] });
    node = await (isRight ? nodeHash(node, sibling) : nodeHash(sibling, node));
  }
  return { path, root: node };
}

/** Throws `Unproven` unless the proof leads from the leaf to the head's root; else the path. */
export async function verifyInclusion(proof, position, leaf, head) {
  const { path, root } = await pathFrom(leaf, position, head.size, proof);
  if (!isSame(root, head.root)) {
    throw new Unproven(`The entry at position ${position} is not the one that was signed.`);
  }
  return path;
}

/** Throws `Unproven` unless the new tree begins with all leaves of the old one. */
export async function verifyConsistency(proof, old, head) {
  const ranges = consistencyRanges(old.size, head.size);
  if (old.size > head.size || proof.length !== ranges.length) {
    throw new Unproven(`The log has ${head.size} events, but had ${old.size} before.`);
  }
  if (old.size === 0) {
    if (hex(old.root) !== EMPTY_ROOT) throw new Unproven("The empty log has another root.");
    return;
  }
  const [smaller, larger] = await bothRoots(ranges, proof, old);
  if (!isSame(smaller, old.root) || !isSame(larger, head.root)) {
    throw new Unproven(`The first ${old.size} events are not those that were signed before.`);
  }
}

/** Returns the roots of both trees. Only the new tree contains the ranges to the right. */
async function bothRoots(ranges, proof, old) {
  const parts = ranges.map((range, n) => [range, proof[n]]);
  let smaller = old.root;
  if (parts.length > 0 && parts[0][0].stop === old.size) smaller = parts.shift()[1];
  let larger = smaller;
  for (const [{ start }, sibling] of parts) {
    if (start >= old.size) {
      larger = await nodeHash(larger, sibling);
    } else {
      smaller = await nodeHash(sibling, smaller);
      larger = await nodeHash(sibling, larger);
    }
  }
  return [smaller, larger];
}

// Notes: C2SP signed-note and tlog-checkpoint.

/** Returns the verifier key of a line "<name>+<key id>+<key>". Throws `Unproven`. */
export async function readKey(line) {
  const found = /^([^\s+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/]+=*)\n?$/.exec(line);
  if (found === null) throw new Unproven("The answer is not a verifier key.");
  const [, name, keyId, encoded] = found;
  const typed = fromBase64(encoded);
  const id = (await sha256(text.encode(`${name}\n`), typed)).slice(0, KEY_ID_BYTES);
  if (typed[0] !== ED25519 || typed.length !== 1 + HASH_BYTES || hex(id) !== keyId) {
    throw new Unproven("The id of the verifier key does not belong to its name and key.");
  }
  return { name, id, bytes: typed.slice(1) };
}

/** Returns the checkpoint of a note that the key signed; others may have signed it too. */
export async function verifyNote(note, key) {
  const end = note.lastIndexOf("\n\n") + 1;
  const lines = note.slice(end + 1).split("\n");
  const isBroken = end === 0 || lines.pop() !== "" || lines.length > SIGNATURES_MAX;
  if (isBroken || note.length > NOTE_CHARACTERS_MAX || /[\x00-\x09\x0b-\x1f]/.test(note)) {
    throw new Unproven("The answer is not a signed note.");
  }
  const signed = text.encode(note.slice(0, end));
  const own = lines.map(signatureOf).filter((each) => isOf(each, key));
  if (own.length === 0) throw new Unproven(`${key.name} did not sign the checkpoint with this key.`);
  for (const { bytes } of own) {
    const isTrue = await verifyEd25519(bytes.slice(KEY_ID_BYTES), signed, key.bytes);
    if (!isTrue) throw new Unproven(`The signature of ${key.name} is false.`);
  }
  return checkpointOf(note.slice(0, end), key);
}

function signatureOf(line) {
  const found = /^\u2014 ([^\s+]+) ([A-Za-z0-9+/]+={0,2})$/.exec(line);
  if (found === null) throw new Unproven("A line after the text of the note is not a signature.");
  return { name: found[1], bytes: fromBase64(found[2]) };
}

const isOf = ({ name, bytes }, key) =>
  name === key.name && isSame(bytes.slice(0, KEY_ID_BYTES), key.id);

function checkpointOf(signed, key) {
  const form = /^([^\n]+)\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n(?:[^\n]+\n)*$/;
  const found = form.exec(signed);
  if (found === null || !Number.isSafeInteger(Number(found[2]))) {
    throw new Unproven("The note is not a checkpoint.");
  }
  if (found[1] !== key.name) {
    throw new Unproven(`It is a checkpoint of ${found[1]}, not of ${key.name}.`);
  }
  return { origin: found[1], size: Number(found[2]), root: fromBase64(found[3]) };
}

/** Verifies with WebCrypto, and where that has no Ed25519 with a library. */
async function verifyEd25519(signature, message, key) {
  if (signature.length !== 64) return false;
  try {
    const imported = await crypto.subtle.importKey("raw", key, "Ed25519", false, ["verify"]);
    return await crypto.subtle.verify("Ed25519", imported, signature, message);
  } catch (error) {
    if (error.name !== "NotSupportedError") return false;
  }
  const { verifyAsync } = await import("./noble-ed25519.js");
  return verifyAsync(signature, message, key, { zip215: false });
}

// Tiles: C2SP tlog-tiles. A tile has up to 256 neighbouring hashes of one level of the tree.

/** Returns the path of a tile after its level: x001/x234/067, 067.p/8. */
export function tilePath(number, width = TILE_WIDTH) {
  const digits = String(number);
  const groups = digits.padStart(Math.ceil(digits.length / 3) * 3, "0").match(/.{3}/g);
  const last = groups.pop();
  const path = [...groups.map((group) => `x${group}`), last].join("/");
  return width === TILE_WIDTH ? path : `${path}.p/${width}`;
}

/** Returns how many hashes a tile of this level has in a tree of this size. */
export function tileWidth(level, number, size) {
  const hashes = Math.floor(size / TILE_WIDTH ** level);
  return Math.min(TILE_WIDTH, hashes - number * TILE_WIDTH);
}

/** Yields the perfect subtrees that make up a range of a proof, the largest first. */
export function* perfectSubtrees({ start, stop }) {
  while (start < stop) {
    let height = 0;
    while (2 ** (height + 1) <= stop - start) height += 1;
    yield { height, number: Math.floor(start / 2 ** height) };
    start += 2 ** height;
  }
}

/** Reads roots of ranges from the tiles of a tree; `fetchBytes(path)` returns the bytes of one. */
export class TiledTree {
  #fetchBytes;
  #tiles = new Map();

  constructor(size, fetchBytes) {
    this.size = size;
    this.#fetchBytes = fetchBytes;
  }

  /** Returns the root of each range. */
  roots(ranges) {
    return Promise.all(ranges.map((range) => this.#rootOf(range)));
  }

  async #rootOf(range) {
    const subtrees = [...perfectSubtrees(range)];
    const hashes = await Promise.all(subtrees.map((subtree) => this.#perfect(subtree)));
    let root = hashes.pop();
    while (hashes.length > 0) root = await nodeHash(hashes.pop(), root);
    return root;
  }

  async #perfect({ height, number }) {
    const level = Math.floor(height / TILE_HEIGHT);
    const count = 2 ** (height % TILE_HEIGHT);
    const first = number * count;
    const tile = await this.#tile(level, Math.floor(first / TILE_WIDTH));
    const hashes = tile.slice(first % TILE_WIDTH, (first % TILE_WIDTH) + count);
    return perfectRoot(hashes);
  }

  #tile(level, number) {
    const path = `${level}/${tilePath(number, tileWidth(level, number, this.size))}`;
    if (!this.#tiles.has(path)) this.#tiles.set(path, this.#read(path));
    return this.#tiles.get(path);
  }

  async #read(path) {
    const bytes = await this.#fetchBytes(path);
    const width = Number(path.split(".p/")[1] ?? TILE_WIDTH);
    if (bytes.length !== width * HASH_BYTES) throw new Unproven(`Tile ${path} has another length.`);
    return Array.from({ length: width }, (_, n) => bytes.slice(n * HASH_BYTES, (n + 1) * HASH_BYTES));
  }
}

async function perfectRoot(hashes) {
  while (hashes.length > 1) {
    const pairs = [];
    for (let n = 0; n < hashes.length; n += 2) pairs.push(nodeHash(hashes[n], hashes[n + 1]));
    hashes = await Promise.all(pairs);
  }
  return hashes[0];
}

/** Returns the entries of a bundle: each is preceded by its length in two bytes. */
export function entriesOf(bundle) {
  const entries = [];
  for (let at = 0; at < bundle.length; ) {
    const end = at + 2 + bundle[at] * 256 + bundle[at + 1];
    if (!(end <= bundle.length)) throw new Unproven("A bundle of entries is cut.");
    entries.push(bundle.slice(at + 2, end));
    at = end;
  }
  return entries;
}

/** Returns the offline receipt of an entry: C2SP tlog-proof. */
export const proofText = (position, proof, note) =>
  `c2sp.org/tlog-proof@v1\nindex ${position}\n${proof.map((each) => `${base64(each)}\n`).join("")}\n${note}`;
