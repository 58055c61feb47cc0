// Sends events with Segment's client for Node, as an application does:
// node segment_under_kills.mjs HOST WRITE_KEY NUMBER
import { setTimeout as sleep } from "node:timers/promises";
import { Analytics } from "@segment/analytics-node";

const [host, writeKey, number] = process.argv.slice(2);
const analytics = new Analytics({ host, writeKey, maxRetries: 12, flushAt: 20, flushInterval: 100 });
const failed = [];
analytics.on("error", (error) => failed.push(String(error.reason ?? error)));

for (let n = 0; n < Number(number); n++) {
  analytics.track({ userId: `u${n % 10}`, event: "order_paid", properties: { n, plan: "pro" } });
  if (n % 10 === 0) await sleep(10);
}
analytics.page({ userId: "u1", name: "Pricing", properties: { path: "/pricing" } });
analytics.screen({ anonymousId: "a1", name: "Cart" });
analytics.identify({ userId: "u1", traits: { plan: "pro" } });
analytics.group({ userId: "u1", groupId: "g1", traits: { seats: 5 } });
analytics.alias({ userId: "u1", previousId: "a1" });
await analytics.closeAndFlush({ timeout: 90_000 });
if (failed.length) {
  console.error(failed.join("\n"));
  process.exit(1);
}
