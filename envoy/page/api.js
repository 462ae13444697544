// What the page asks the store: the JSON API, and the stream that tells when something has changed.

/** How long the page waits between two looks while the stream is away, in milliseconds. */
const POLL_MS = 3000;

/** An answer of the store other than success, or no answer at all. */
export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function ask(path, query) {
  const search = query?.toString();
  let response;
  try {
    response = await fetch(search ? `${path}?${search}` : path, { headers: { accept: "application/json" } });
  } catch {
    throw new ApiError("The store does not answer. Is it still running?", 0);
  }
  const body = await response.json().catch(() => null);
  if (!response.ok || body === null) {
    throw new ApiError(body?.error ?? `The store answered ${response.status}.`, response.status);
  }
  return body;
}

/** One page of the list of traces, newest first. */
export const traces = (query) => ask("/api/traces", query);
/** One trace with its sessions, spans and hops. */
export const trace = (id) => ask(`/api/traces/${encodeURIComponent(id)}`);
/** The names of all services. */
export const services = () => ask("/api/services");
/** Who calls whom. */
export const map = (query) => ask("/api/map", query);
/** What the store counts about itself. */
export const status = () => ask("/api/status");

/**
 * Calls `changed` whenever the store has something new, and `state` with "live" or "polling". The browser
 * opens a broken stream again by itself; until it has, the page looks every few seconds.
 *
 * A page that nobody sees has no stream: a browser has only six connections to a server, and tabs in the
 * background would take them all.
 */
export function follow(changed, state) {
  let stream = null;
  let timer = null;
  const stopPolling = () => {
    clearInterval(timer);
    timer = null;
  };
  const close = () => {
    stopPolling();
    stream?.close();
    stream = null;
  };
  const open = () => {
    if (stream !== null) return;
    stream = new EventSource("/api/events");
    stream.addEventListener("open", () => {
      stopPolling();
      state("live");
      changed();
    });
    stream.addEventListener("changed", changed);
    stream.addEventListener("error", () => {
      state("polling");
      timer ??= setInterval(changed, POLL_MS);
    });
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  open();
}

/** Runs `work` again and again, never twice at the same time; a call while it runs leads to one more run. */
export function oneAtATime(work) {
  let running = false;
  let again = false;
  return async function run() {
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      do {
        again = false;
        await work();
      } while (again);
    } finally {
      running = false;
    }
  };
}
