// Baileys as people run it: one Node process, a folder of auth files per session, a silent logger, and a new socket
// at once when one closes (the loop of its own example). Commands and events are JSON lines on stdin and stdout.
import { createInterface } from "node:readline";
import { HttpsProxyAgent } from "https-proxy-agent";
import pino from "pino";
import { DisconnectReason, WA_CERT_DETAILS, makeWASocket, useMultiFileAuthState } from "@whiskeysockets/baileys";

const { proxy, root } = JSON.parse(process.argv[2]);
WA_CERT_DETAILS.PUBLIC_KEY = Buffer.from(root, "hex");
const logger = pino({ level: "silent" });
const agent = new HttpsProxyAgent(proxy);
const sockets = new Map();

const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

async function start(folder) {
  const { state, saveCreds } = await useMultiFileAuthState(folder);
  const socket = makeWASocket({ auth: state, logger, agent, syncFullHistory: false,
                                markOnlineOnConnect: false });
  sockets.set(folder, socket);
  socket.ev.on("creds.update", saveCreds);
  socket.ev.on("connection.update", ({ connection, qr, lastDisconnect }) => {
    if (qr) say({ on: "qr", folder, text: qr });
    if (connection === "open") say({ on: "open", folder, me: socket.user });
    if (connection !== "close") return;
    const code = lastDisconnect?.error?.output?.statusCode;
    say({ on: "close", folder, code, error: String(lastDisconnect?.error?.message) });
    if (code !== DisconnectReason.loggedOut && sockets.has(folder)) start(folder);
  });
  socket.ev.on("messages.upsert", ({ messages }) => {
    for (const message of messages) {
      const text = message.message?.conversation ?? message.message?.extendedTextMessage?.text;
      if (text && !message.key.fromMe) say({ on: "message", folder, text });
    }
  });
}

async function send({ folder, to, text }) {
  try {
    const sent = await sockets.get(folder).sendMessage(`${to}@s.whatsapp.net`, { text });
    say({ on: "sent", text, id: sent?.key.id });
  } catch (error) {
    say({ on: "unsent", text, error: String(error.message) });
  }
}

process.on("unhandledRejection", (error) => say({ on: "rejection", error: String(error?.message) }));
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  if (command.do === "start") start(command.folder);
  else if (command.do === "send") send(command);
  else if (command.do === "stop") {
    const socket = sockets.get(command.folder);
    sockets.delete(command.folder);
    socket.end(undefined);
  }
}
process.exit(0);
