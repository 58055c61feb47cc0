// Sends events with PostHog's library for Node, as an application does:
// node posthog.mjs ORIGIN WRITE_KEY NAME NUMBER LONG_AGO
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { PostHog } from "posthog-node";

const [host, writeKey, name, number, longAgo] = process.argv.slice(2);
const options = { host, flushAt: 10, flushInterval: 100, fetchRetryCount: 40, fetchRetryDelay: 1000 };
const client = new PostHog(writeKey, options);

const began = Date.parse(longAgo);
for (let n = 0; n < Number(number); n++) {
  client.capture({
    distinctId: `${name}-${n % 10}`,
    event: "order_paid",
    properties: { library: name, n, at: Date.now() / 1000, city: "Köln ✓", tags: [0.5, {}] },
    ...(n % 5 === 0 && { timestamp: new Date(began + n * 60_000) }),
    ...(n % 2 === 0 && { uuid: randomUUID() }),
  });
  await sleep(100);
}
const distinctId = `${name}-0`;
client.capture({ distinctId, event: "$pageview", properties: { library: name } });
client.identify({ distinctId, properties: { library: name, plan: "pro" } });
client.groupIdentify({
  groupType: "company",
  groupKey: "g1",
  properties: { library: name, seats: 5 },
  distinctId,
});
client.alias({ distinctId, alias: "a1" });
await client.shutdown(90_000);
