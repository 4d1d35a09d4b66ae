// A client of the TypeScript SDK that does what it is told, line by line: the journeys are written once, in Python, and
// driven by every client (tests/python/clients.py).
//
//   node bridge.mjs v1|v2 URL
//
// Reads {"id", "method": "tools" | "call" | "end", "tool", "arguments"}, answers {"id", "result"} or {"id", "error"}.

import { createInterface } from 'node:readline';

const [generation, url] = process.argv.slice(2);
const about = { name: `typescript-${generation}`, version: '1' };

/** The first generation speaks the eras with `initialize`, the second 2026-07-28 where the server does. */
async function connect() {
  if (generation === 'v1') {
    const { Client } = await import('@modelcontextprotocol/sdk/client/index.js');
    const { StreamableHTTPClientTransport } = await import('@modelcontextprotocol/sdk/client/streamableHttp.js');
    const client = new Client(about);
    const transport = new StreamableHTTPClientTransport(new URL(url));
    await client.connect(transport);
    return { client, call: (request) => client.callTool(request), end: () => transport.terminateSession() };
  }
  const { Client, StreamableHTTPClientTransport } = await import('@modelcontextprotocol/client');
  const client = new Client(about, { versionNegotiation: { mode: 'auto' } });
  await client.connect(new StreamableHTTPClientTransport(new URL(url)));
  return { client, call: (request) => client.callTool(request), end: async () => {} };
}

const answer = (message) => process.stdout.write(JSON.stringify(message) + '\n');

const { client, call, end } = await connect();
answer({ id: 0, result: { protocol: client.getNegotiatedProtocolVersion?.() ?? client.transport.protocolVersion } });

const methods = {
  tools: async () => (await client.listTools()).tools.map((tool) => tool.name),
  call: ({ tool, arguments: given }) => call({ name: tool, arguments: given }),
  end: async () => {
    await end();
    await client.close();
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, ...rest } = JSON.parse(line);
  // Not awaited: calls may run beside each other, as an agent's do.
  methods[method](rest).then(
    (result) => answer({ id, result: result ?? null }),
    (error) => answer({ id, error: String(error) }),
  );
}
