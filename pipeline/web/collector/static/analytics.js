// <script defer src="https://HOST/analytics.js" data-key="wk_…"></script>
//
// or, for tag managers that drop attributes, src="https://HOST/analytics.js?key=wk_…"; or, where the
// script is put into a page without an element of its own, before it
// window.analytics = [["load", "wk_…", "https://HOST"]].
//
// Counts page views, time on page and clicks on elements with data-track; analytics.track(name,
// properties) counts anything else. No cookies and no identity: identify(userId) lasts as long as
// the page. What the collector has not taken yet waits in localStorage, under an id by which it
// counts once however often it is sent. Where Do Not Track or Global Privacy Control is on, nothing
// is sent and nothing is kept.
//
// It is served without the lines that are comments, and without indentation.
(() => {
  "use strict";
  // Events that wait; past that the oldest are dropped.
  const MAX_WAITING = 100;
  // Characters of an event: the collector takes no larger one.
  const MAX_EVENT = 32e3;
  // Characters of a request that outlives the page: in any script less than the 64 KiB allowed.
  const MAX_REQUEST = 2e4;
  // Milliseconds: the collector knows an id for 24 hours, and later would count it again.
  const MAX_AGE = 20 * 36e5;
  // Milliseconds in which events gather, for a reply, and between two tries.
  const SOON = 500;
  const PATIENCE = 15e3;
  const LONGEST_PAUSE = 3e5;

  // Calls made before this script was there: [["track", "signup"], …].
  const early = window.analytics;
  const warn = (...about) => console.warn("analytics.js:", ...about);
  if (early && early.track) return warn("included twice");
  // Key and host are those of a call, of the element that runs, which is not known of a module or
  // where an optimiser has moved the script, or of an element that looks like it.
  const keyed = 'script[data-key^="wk_"],script[src*="key=wk_"]';
  const { key, host } =
    [
      ...(Array.isArray(early) ? early : [])
        .filter(([name]) => name == "load")
        .map(([, key, host]) => ({ key, host })),
      ...[document.currentScript, ...document.querySelectorAll(keyed)]
        .filter(Boolean)
        .map(({ dataset, src }) => ({
          key: dataset.key || (src && new URL(src).searchParams.get("key")),
          host: src,
        })),
    ].find((one) => one.key && one.host) || {};
  if (!key) return warn("its script element needs data-key, or ?key=wk_… in its address");
  const url = new URL("v1/batch", host).href;
  // One item an event, so that tabs cannot overwrite each other's.
  const prefix = `analytics ${url} `;
  const unwanted =
    navigator.globalPrivacyControl || navigator.doNotTrack == 1 || window.doNotTrack == 1;

  // Id -> event as JSON, oldest first.
  const waiting = new Map();
  // The page view: its path, how long it has been visible, since when it is, whether it was left.
  let view;
  let user, sending, gone, timer;
  let failures = 0;

  // Storage may be forbidden or full: events then wait in memory only.
  const storage = (work) => {
    try {
      return work(localStorage);
    } catch {}
  };
  const stored = () =>
    storage((items) => Object.keys(items).filter((name) => name.startsWith(prefix))) || [];
  const forget = (id) => {
    waiting.delete(id);
    storage((items) => items.removeItem(prefix + id));
  };

  // Take over what earlier pages left.
  const recover = () =>
    stored()
      .map((name) => {
        const found = { id: name.slice(prefix.length) };
        storage((items) => {
          found.text = items.getItem(name);
          found.at = Date.parse(JSON.parse(found.text).timestamp);
        });
        return found;
      })
      .sort((one, other) => one.at - other.at)
      .forEach(({ id, text, at }) => {
        if (Date.now() - at < MAX_AGE) waiting.set(id, text);
        else forget(id);
      });

  // As many events as a request holds, or one that is larger.
  const request = (skipped) => {
    const ids = [];
    let size = 0;
    for (const [id, text] of [...waiting].slice(skipped)) {
      size += text.length;
      if (ids.length && size > MAX_REQUEST) break;
      ids.push(id);
    }
    const head = JSON.stringify({ writeKey: key, sentAt: new Date() }).slice(0, -1);
    return { ids, body: `${head},"batch":[${ids.map((id) => waiting.get(id))}]}` };
  };

  const later = (ms) => {
    clearTimeout(timer);
    timer = setTimeout(send, ms);
  };

  const send = async () => {
    if (sending || gone || !waiting.size) return;
    sending = true;
    const { ids, body } = request(0);
    let again = true;
    let pause = 0;
    try {
      // Plain text needs no preflight; a small body is sent even if the page goes away meanwhile.
      const reply = await fetch(url, {
        method: "POST",
        body,
        credentials: "omit",
        keepalive: body.length < MAX_REQUEST + 1e3,
        signal: AbortSignal.timeout && AbortSignal.timeout(PATIENCE),
      });
      const said = await reply.text();
      pause = reply.headers.get("retry-after") * 1e3 || 0;
      // The answer to any other 4xx would be the same next time.
      again = reply.status > 499 || reply.status == 429 || reply.status == 408;
      if (!reply.ok || said.includes("rejected")) warn(said);
    } catch {}
    sending = false;
    if (!again) ids.forEach(forget);
    failures = again ? failures + 1 : 0;
    const backoff = Math.min(2 ** failures * SOON, LONGEST_PAUSE) * (0.5 + Math.random() / 2);
    later(again ? Math.max(backoff, pause) : 0);
  };

  // The page goes away and sees no reply: what is handed to the browser stays stored as well.
  const handOver = () => {
    gone = true;
    for (let sent = 0; sent < waiting.size; ) {
      const { ids, body } = request(sent);
      if (!navigator.sendBeacon(url, body)) return;
      sent += ids.length;
    }
  };

  const record = (event, properties, context) => {
    if (unwanted) return;
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    const id = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    let text;
    try {
      text = JSON.stringify({
        type: "track",
        event,
        messageId: id,
        timestamp: new Date(),
        userId: user,
        properties: { path: place(), ...properties },
        context,
      });
    } catch {}
    if (!text || text.length > MAX_EVENT) return warn("too large or no JSON:", event, properties);
    waiting.set(id, text);
    storage((items) => items.setItem(prefix + id, text));
    while (waiting.size > MAX_WAITING) forget(waiting.keys().next().value);
    if (!failures) later(SOON);
  };
  const track = (event, properties) => record(event, properties);

  const place = () => {
    // The route of an application; not what may hold a token.
    const hash = location.hash.split("?")[0];
    return location.pathname + (hash.includes("=") ? "" : hash);
  };

  // The campaign that led here: all that is sent of a query, and kept where a setting says so.
  const campaign = () => {
    const found = [...new URLSearchParams(location.search)]
      .filter(([name, value]) => /^utm_(source|medium|campaign|term|content)$/.test(name) && value)
      .map(([name, value]) => [name.slice(4), value.slice(0, 200)]);
    return found.length ? { campaign: Object.fromEntries(found.reverse()) } : undefined;
  };

  const see = (referrer) => {
    view = { path: place(), seen: 0 };
    look();
    record("page_view", referrer && { referrer: referrer.split(/[?#]/)[0] }, campaign());
  };

  const look = () => {
    const now = performance.now();
    if (view.since != null) view.seen += now - view.since;
    view.since = document.hidden ? null : now;
  };

  // Once a view: when it is left or, since a phone may end a hidden page without a word, hidden.
  const leave = () => {
    look();
    if (view.left) return;
    view.left = true;
    track("time_on_page", { path: view.path, seconds: Math.round(view.seen / 1e3) });
  };

  const move = () => {
    if (place() == view.path) return;
    leave();
    see();
  };

  const click = ({ target }) => {
    const element = target.closest && target.closest("[data-track]");
    if (!element) return;
    const properties = {};
    for (const { name, value } of element.attributes) {
      if (name.startsWith("data-track-")) properties[name.slice(11).replace(/-/g, "_")] = value;
    }
    track(element.dataset.track || "click", properties);
  };

  const start = () => {
    recover();
    see(document.referrer);
    for (const name of ["pushState", "replaceState"]) {
      const original = history[name];
      history[name] = function (...given) {
        original.apply(this, given);
        move();
      };
    }
    addEventListener("popstate", move);
    addEventListener("hashchange", move);
    addEventListener("online", send);
    addEventListener("pagehide", () => {
      leave();
      handOver();
    });
    addEventListener("pageshow", (event) => {
      gone = false;
      // Back from the browser's cache.
      if (event.persisted) see();
    });
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden) return look();
      leave();
      send();
    });
    // While it goes down: the page may keep a click from coming up again.
    document.addEventListener("click", click, true);
  };

  const analytics = (window.analytics = {
    track,
    identify: (id) => {
      user = id == null ? undefined : String(id);
    },
    load() {},
    push: ([name, ...given]) => analytics[name](...given),
  });
  if (unwanted) stored().forEach((name) => storage((items) => items.removeItem(name)));
  else if (document.prerendering) {
    document.addEventListener("prerenderingchange", start, { once: true });
  } else start();
  if (Array.isArray(early)) early.forEach((call) => analytics.push(call));
})();
