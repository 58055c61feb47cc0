// Sends events with a library whose calls are Segment's, as an application does:
// node like_segment.mjs MODULE ORIGIN WRITE_KEY NAME NUMBER LONG_AGO
import { setTimeout as sleep } from "node:timers/promises";

const [module, origin, writeKey, name, number, longAgo] = process.argv.slice(2);
const failed = [];
const clients = {
  "@segment/analytics-node": ({ Analytics }) => {
    const options = { host: origin, writeKey, maxRetries: 12, flushAt: 10, flushInterval: 100 };
    const client = new Analytics(options);
    client.on("error", (error) => failed.push(String(error.reason ?? error)));
    return { client, end: () => client.closeAndFlush({ timeout: 90_000 }) };
  },
  "@rudderstack/rudder-sdk-node": ({ default: RudderAnalytics }) => {
    const client = new RudderAnalytics(writeKey, {
      dataPlaneUrl: origin,
      retryCount: 12,
      flushAt: 10,
      flushInterval: 100,
      logLevel: "none",
      errorHandler: (error) => failed.push(String(error)),
    });
    const end = async () => {
      while (client.queue.length) await client.flush();
      await client.flush();
    };
    return { client, end };
  },
};
const { client, end } = clients[module](await import(module));

const began = Date.parse(longAgo);
for (let n = 0; n < Number(number); n++) {
  client.track({
    userId: `${name}-${n % 10}`,
    event: "order_paid",
    properties: { library: name, n, at: Date.now() / 1000, city: "Köln ✓", tags: [0.5, {}] },
    ...(n % 5 === 0 && { timestamp: new Date(began + n * 60_000) }),
    ...(n % 2 === 0 && { messageId: `${name}-${n}` }),
  });
  await sleep(100);
}
const userId = `${name}-0`;
client.page({ userId, name: "Pricing", properties: { library: name } });
client.screen({ anonymousId: userId, name: "Cart", properties: { library: name } });
client.identify({ userId, traits: { library: name, plan: "pro" } });
client.group({ userId, groupId: "g1", traits: { library: name, seats: 5 } });
client.alias({ userId, previousId: "a1" });
await end();
if (failed.length) {
  console.error(failed.join("\n"));
  process.exit(1);
}
