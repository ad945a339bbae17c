// Judges an AsyncAPI document with the initiative's own parser: what it says on stdout, one JSON object a line.
//
//     node check.mjs FILE
//
// Exit code: 0 valid, 1 not.
import { readFile } from "node:fs/promises";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(await readFile(process.argv[2], "utf8"));
for (const { code, severity, message, path } of diagnostics) {
  console.log(JSON.stringify({ code, severity, message, path: path.join("/") }));
}
if (document === undefined) process.exit(1);
console.log(
  JSON.stringify({
    version: document.version(),
    channels: document.channels().all().map((channel) => channel.address()),
    operations: document.operations().all().map((operation) => [operation.id(), operation.action()]),
    messages: document.messages().all().map((message) => message.name()),
    examples: document.messages().all().reduce((sum, message) => sum + message.examples().length, 0),
  }),
);
