/**
 * Keeps what this browser trusts of a project's logs, and checks that they only grew since.
 *
 * The key that is seen first is trusted, and of each log the checkpoint that was verified last. From
 * then on, another key or another past is an alarm, which stays until a person removes it. A project's
 * logs of one instance have one key; a log that was moved here has that of its instance, as its name
 * says. A server that does not answer is no alarm. Bytes come from the tlog routes below `base` alone,
 * as from any C2SP log.
 */

import * as tlog from "./tlog.js";

/** How long a checkpoint that was verified serves further proofs, before a newer one is asked for:
 * the log seals the record of reads before each checkpoint that an auditor asks for. */
export const FRESH_MS = 600_000;

const SIGNED_WAIT_MS = 1_000;
const SIGNED_TRIES = 6;

/** Says that what the server shows contradicts what this browser knows. */
export class Alarm extends Error {
  constructor(kind, message, evidence = {}) {
    super(message);
    this.kind = kind;
    this.evidence = evidence;
  }
}

/** Says that the server did not answer, so nothing was checked. */
export class Unanswered extends Error {}

/** Returns whether this browser can compute proofs: only pages over https or on this machine may. */
export const canProve = () => globalThis.crypto?.subtle !== undefined;

/** Keeps trust in the browser's storage, for the logs below one base. */
export class Trust {
  #name;

  constructor(base) {
    this.#name = `firmtrail.trust ${base}`;
  }

  /** Returns what is trusted. Older versions kept one key, which had signed every log they knew. */
  read() {
    const kept = JSON.parse(localStorage.getItem(this.#name)) ?? { logs: {}, alarm: null };
    const { key, logs, alarm } = kept;
    for (const known of Object.values(logs)) known.key ??= key.bytes;
    return { logs, alarm };
  }

  #write(change) {
    const trusted = this.read();
    change(trusted);
    localStorage.setItem(this.#name, JSON.stringify(trusted));
    return trusted;
  }

  /** Remembers a checkpoint that was verified; another tab may have come further meanwhile. */
  remember(number, key, note, head) {
    const now = new Date().toISOString();
    return this.#write((trusted) => {
      const known = trusted.logs[number];
      if (known && known.size > head.size) return;
      const root = tlog.base64(head.root);
      const first = { key: known?.key ?? tlog.base64(key.bytes), since: known?.since ?? now };
      trusted.logs[number] = { ...first, note, size: head.size, root, at: now };
    });
  }

  /** Returns a trusted log whose name differs from this one in its number alone: they have one key. */
  sibling(name) {
    const stem = (origin) => origin.slice(0, origin.lastIndexOf("/"));
    const logs = Object.values(this.read().logs);
    return logs.find(({ note }) => stem(note.split("\n")[0]) === stem(name));
  }

  raise(alarm, number) {
    const { kind, message, evidence } = alarm;
    const at = new Date().toISOString();
    this.#write((trusted) => (trusted.alarm ??= { kind, message, number, at, evidence }));
  }

  forget() {
    localStorage.removeItem(this.#name);
  }
}

/** Checks one log of a project, as its server shows it. */
export class CheckedLog {
  #tree = null;
  #cache = "default";
  #note = null;

  constructor(base, number) {
    this.number = number;
    this.path = `${base}/${number}`;
    this.trust = new Trust(base);
  }

  /** Verifies the newest checkpoint, and that the log only grew since the last one. */
  check() {
    return this.#sure(() => this.#check());
  }

  /** Raises an alarm only if it is one without the browser's cache too, which may be of old. */
  async #sure(work) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof Alarm)) throw error;
      if (this.#cache === "default") {
        this.#cache = "reload";
        return this.#sure(work);
      }
      this.trust.raise(error, this.number);
      throw error;
    }
  }

  async #check() {
    const known = this.trust.read().logs[this.number];
    const key = await this.#key(known);
    const note = await this.#text("checkpoint", known);
    const head = await alarmed("signature", { note }, () => tlog.verifyNote(note, key));
    this.#note = note;
    this.#tree = new tlog.TiledTree(head.size, (path) => this.#tile(path));
    if (known) await this.#compare(known, head, note);
    const { since } = this.trust.remember(this.number, key, note, head).logs[this.number];
    return { head, note, key, since, from: known?.size ?? null };
  }

  async #key(known) {
    const line = await this.#text("key", known);
    const key = await alarmed("signature", { line }, () => tlog.readKey(line));
    const trusted = known ?? this.trust.sibling(key.name);
    if (trusted && trusted.key !== tlog.base64(key.bytes)) {
      const message = "The key that signs this log is another one than before.";
      throw new Alarm("key", message, { shown: line, before: trusted });
    }
    return key;
  }

  async #compare(known, head, note) {
    const before = { size: known.size, root: tlog.fromBase64(known.root) };
    const evidence = { before: known.note, note };
    if (head.size < before.size) {
      const message = `The log had ${before.size} events, and now has ${head.size}: it was cut.`;
      throw new Alarm("cut", message, evidence);
    }
    const proof = await this.#roots(tlog.consistencyRanges(before.size, head.size));
    await alarmed("fork", evidence, () => tlog.verifyConsistency(proof, before, head));
  }

  /** Proves that the log has an entry. Returns its bytes, its path to the signed root, and more. */
  prove(position) {
    return this.#sure(() => this.#prove(position));
  }

  async #prove(position) {
    const checked = (await this.#checkedLately(position)) ?? (await this.#checkAbove(position));
    const { head, note } = checked;
    const entry = await this.#entry(position, head.size);
    const leaf = await tlog.leafHash(entry);
    const proof = await this.#roots(tlog.inclusionRanges(position, head.size));
    const evidence = { note, position, entry: new TextDecoder().decode(entry) };
    const path = await alarmed("entry", evidence, () =>
      tlog.verifyInclusion(proof, position, leaf, head),
    );
    return { ...checked, entry, leaf, path, receipt: tlog.proofText(position, proof, note) };
  }

  /** Returns what `#check` found lately, if that covers the position; only the key is asked for. */
  async #checkedLately(position) {
    const known = this.trust.read().logs[this.number];
    if (!known || known.size <= position || Date.now() - Date.parse(known.at) > FRESH_MS) return null;
    const { note, since, size } = known;
    const key = await this.#key(known);
    const head = await alarmed("signature", { note }, () => tlog.verifyNote(note, key));
    this.#note = note;
    this.#tree = new tlog.TiledTree(head.size, (path) => this.#tile(path));
    return { head, note, key, since, from: size };
  }

  /** Waits until a checkpoint covers the position: it lags the log by about a second. */
  async #checkAbove(position) {
    for (let tries = 1; ; tries += 1) {
      const checked = await this.#check();
      if (checked.head.size > position) return checked;
      if (tries === SIGNED_TRIES) throw new Unanswered("No checkpoint covers this entry yet.");
      await new Promise((resume) => setTimeout(resume, SIGNED_WAIT_MS));
    }
  }

  async #entry(position, size) {
    const number = Math.floor(position / tlog.TILE_WIDTH);
    const path = tlog.tilePath(number, tlog.tileWidth(0, number, size));
    const bundle = await this.#tile(`entries/${path}`);
    const entries = await alarmed("withheld", { path, note: this.#note }, () => tlog.entriesOf(bundle));
    return entries[position % tlog.TILE_WIDTH] ?? new Uint8Array();
  }

  async #roots(ranges) {
    return alarmed("withheld", { note: this.#note }, () => this.#tree.roots(ranges));
  }

  async #tile(path) {
    const response = await answerOf(`${this.path}/tile/${path}`, this.#cache);
    if (response.status === 404) {
      const message = `A part of the log that was signed is not there: tile ${path}.`;
      throw new Alarm("withheld", message, { note: this.#note });
    }
    return new Uint8Array(await whole(response).arrayBuffer());
  }

  async #text(name, known) {
    const response = await answerOf(`${this.path}/${name}`, "no-store");
    if (response.status === 404 && known) {
      const message = "The log that this browser verified is no longer there.";
      throw new Alarm("gone", message, { before: known.note });
    }
    return whole(response).text();
  }
}

/** Returns what `verify` returns; what it finds unproven becomes an alarm. */
async function alarmed(kind, evidence, verify) {
  try {
    return await verify();
  } catch (error) {
    if (error instanceof tlog.Unproven) throw new Alarm(kind, error.message, evidence);
    throw error;
  }
}

/** Returns the answer. A redirect leads to the sign-in, and is no answer of the log. */
async function answerOf(url, cache) {
  try {
    return await fetch(url, { cache, redirect: "manual" });
  } catch (error) {
    if (error instanceof TypeError) throw new Unanswered("The server could not be reached.");
    throw error;
  }
}

function whole(response) {
  if (response.ok) return response;
  const why = response.type === "opaqueredirect" ? "You are signed out" : `Status ${response.status}`;
  throw new Unanswered(`The server did not answer: ${why}.`);
}
