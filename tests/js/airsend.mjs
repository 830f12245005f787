// A client as AirSend's web client is one: rtm.connect, ws_auth first, ws_ping every ten seconds with five to answer it, a way
// around the socket (system.ping) to see whether it is heard, back again after a close, but not after one without a code.
// Says one JSON object per line of what happens, and sends the lines that it is given.

import readline from 'node:readline';
import WebSocket from 'ws';

const { bases, bearer, user_email, pingEvery = 10_000, pongWithin = 5_000, backAfter = 1_000 } = JSON.parse(process.argv[2]);
const say = (kind, more = {}) => console.log(JSON.stringify({ kind, ...more }));
const headers = { authorization: `Bearer ${bearer}` };

let ws;
let turn = 0;

async function connect() {
  const base = bases[turn++ % bases.length];
  let rtm;
  try {
    const answer = await fetch(`${base}/api/v1/rtm.connect`, { headers });
    ({ rtm } = await answer.json());
  } catch (error) {
    say('away', { message: String(error) });
    setTimeout(connect, backAfter);
    return;
  }
  const { finger_print } = JSON.parse(Buffer.from(rtm.ws_token.split('.')[1], 'base64url'));
  ws = new WebSocket(rtm.ws_endpoint);
  let late;
  let pinging;
  let around;
  const askAround = async () => {
    const body = new URLSearchParams({ finger_print, ping_token: 'around' });
    const answer = await fetch(`${base}/api/v1/system.ping`, { method: 'POST', headers, body });
    say('asked', { status: answer.status });
    around = setTimeout(askAround, 60_000);
  };
  ws.on('error', (error) => say('error', { message: String(error) }));
  ws.on('ping', () => say('ping'));
  ws.on('open', () => {
    ws.send(JSON.stringify({ command: 'ws_auth', auth_token: rtm.ws_token }));
    say('open', { base });
    pinging = setInterval(() => {
      late = setTimeout(() => { say('late'); ws.close(4000); }, pongWithin);
      ws.send(JSON.stringify({ command: 'ws_ping' }));
    }, pingEvery);
    around = setTimeout(askAround, 2_000);
  });
  ws.on('message', (data, isBinary) => {
    const frame = JSON.parse(data);
    if (frame.event === 'pong') clearTimeout(late);
    say('frame', { frame, isBinary });
  });
  ws.on('close', (code) => {
    clearInterval(pinging);
    clearTimeout(late);
    clearTimeout(around);
    say('closed', { code });
    // Closed on purpose, it thinks.
    if (code !== 1005) setTimeout(connect, backAfter);
  });
}

readline.createInterface({ input: process.stdin })
  .on('line', (line) => ws.send(JSON.stringify({ ...JSON.parse(line), user_email })))
  .on('close', () => process.exit());
await connect();
