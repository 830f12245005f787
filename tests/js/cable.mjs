// One Action Cable client, as its package is published, told what to do by the test:
//
//   node cable.mjs '{"client":"rails","url":"ws://…","token":"…"}'
//
// `client` is `rails` (@rails/actioncable), `legacy` (actioncable 5.2), `anycable` (@anycable/core) or `ws` (a plain websocket).
// Standard input brings commands, one JSON object a line, with what is to be done in `do`: see `commands` below.
// Lines out, whatever the client: {"kind":"open","protocol":…} and {"kind":"shut","code":…} per socket; {"kind":"ping","at":…}
// and {"kind":"frame","frame":…} for what the server sends besides events; and what the client makes of it: "connected",
// "received", "rejected", "disconnected", each with the subscription's name in `as`. The plain one says "event" with the frame.
//
// Tokens go where the client can put them: in the address (`jid`), unless `auth` says "header" or "sub-protocol".

import { createRequire } from 'node:module'
import { WebSocket } from 'ws'
import { commanded, message, run, say } from './ndjson.mjs'

const require = createRequire(import.meta.url)
const options = JSON.parse(process.argv[2])

/** The socket that is open now: the one that `cut` cuts. */
let current

/** A websocket as browsers have it, which says what comes; the clients are given it in place of the browser's. */
class Socket extends WebSocket {
  constructor(url, protocols, settings) {
    const headers = { ...settings?.headers, ...(options.auth === 'header' && options.client !== 'anycable' && { authorization: `Bearer ${options.token}` }) }
    super(url, protocols, { ...settings, headers })
    current = this
    this.on('open', () => say('open', { protocol: this.protocol }))
    this.on('close', (code) => say('shut', { code }))
    this.on('error', (error) => say('error', { message: message(error) }))
    this.on('pong', () => say('pong'))
    this.on('message', (data) => observe(JSON.parse(data)))
  }

  /** In browsers a handler that throws breaks nothing but itself. */
  set onmessage(handler) {
    super.onmessage = handler && ((event) => {
      try {
        handler(event)
      } catch (error) {
        say('threw', { message: message(error) })
      }
    })
  }

  get onmessage() {
    return super.onmessage
  }
}

function observe(frame) {
  if (frame.type === 'ping') say('ping', { at: Date.now(), message: frame.message })
  else if (frame.type !== undefined) say('frame', { frame })
  else if (options.compact) say('event', { n: frame.message.payload.n, offset: frame.offset })
  else if (options.client === 'ws') say('event', { frame })
}

/** The address with the token, unless that goes elsewhere. */
function address() {
  const url = new URL(options.url)
  if (options.token && !options.auth) url.searchParams.set('jid', options.token)
  return url.href
}

/** What a page calls when its subscription is told something; the same for both clients of Rails. */
function callbacks(as) {
  const tell = (kind) => (detail) => say(kind, { as, ...detail })
  return {
    connected: tell('connected'),
    disconnected: tell('disconnected'),
    rejected: tell('rejected'),
    received: (message) => say('received', { as, message: message ?? null }),
  }
}

const channel = (params) => ({ channel: 'EventChannel', ...params })

/** `@rails/actioncable` and its predecessor have one interface. */
function consumer(ActionCable, setUrl) {
  const consumer = ActionCable.createConsumer(address())
  setUrl(consumer)
  const subscriptions = new Map()
  return {
    subscribe: ({ as, params }) => subscriptions.set(as, consumer.subscriptions.create(channel(params), callbacks(as))),
    unsubscribe: ({ as }) => subscriptions.get(as).unsubscribe(),
    perform: ({ as, action, data }) => subscriptions.get(as).perform(action, data),
    address: () => setUrl(consumer),
  }
}

function rails() {
  globalThis.addEventListener ??= () => {}
  globalThis.removeEventListener ??= () => {}
  const ActionCable = require('@rails/actioncable')
  ActionCable.adapters.WebSocket = Socket
  return consumer(ActionCable, (consumer) => (consumer._url = address()))
}

function legacy() {
  const nothing = () => {}
  const page = { addEventListener: nothing, removeEventListener: nothing, visibilityState: 'visible', head: { querySelector: () => null } }
  Object.assign(globalThis, { window: globalThis, document: page, WebSocket: Socket })
  const ActionCable = require('actioncable')
  ActionCable.WebSocket = Socket
  return consumer(ActionCable, (consumer) => (consumer.url = address()))
}

async function anycable() {
  const { createCable } = await import('@anycable/core')
  const cable = createCable(options.url, {
    protocol: options.protocol,
    websocketImplementation: Socket,
    websocketAuthStrategy: options.auth,
    auth: { token: options.token },
    logger: Object.fromEntries(['debug', 'info', 'warn', 'error'].map((level) => [level, (text) => level === 'error' && say('complaint', { text })])),
    ...(options.history !== undefined && { historyTimestamp: options.history }),
    ...(options.pongs && { protocolOptions: { pongs: true } }),
    // Comes back when it is told to, so that the test decides what it misses.
    ...(options.stays_away && { reconnectStrategy: () => 2 ** 30 }),
    ...(options.fresh && { tokenRefresher: async (transport) => (say('refresh'), transport.setToken(options.fresh)) }),
  })
  cable.on('close', (error) => say('closed', { reason: error?.reason ?? null }))
  const channels = new Map()
  return {
    subscribe: ({ as, params }) => {
      const one = cable.subscribeTo('EventChannel', params)
      one.on('connect', ({ reconnect }) => say('connected', { as, reconnected: reconnect }))
      one.on('disconnect', () => say('disconnected', { as }))
      one.on('close', (error) => say(error?.name === 'SubscriptionRejectedError' ? 'rejected' : 'ended', { as }))
      one.on('message', (message, meta) => say('received', { as, message, meta }))
      one.on('info', ({ type }) => say('info', { as, type }))
      channels.set(as, one)
    },
    unsubscribe: ({ as }) => channels.get(as).disconnect(),
    perform: ({ as, action, data }) => channels.get(as).perform(action, data),
    address: () => cable.transport.setURL(address()),
    connect: () => cable.connect().catch(() => {}),
    // Its places belong to a log that is not there any more.
    lose: () => Object.values(cable.protocol.streamsPositions).forEach((place) => (place.epoch = 'lost')),
  }
}

/** The client of Zaikio's documentation: a plain websocket that subscribes as soon as it is open. */
function ws() {
  const identifiers = new Map()
  const send = (frame) => current.send(JSON.stringify(frame))
  const identifier = ({ as, params, text }) => {
    if (!identifiers.has(as)) identifiers.set(as, text ?? JSON.stringify(channel(params)))
    return identifiers.get(as)
  }
  const connect = () => {
    const socket = new Socket(address(), options.protocol ? [options.protocol] : [])
    socket.on('open', () => options.first?.forEach((command) => commands[command.do](command)))
  }
  const commands = {
    subscribe: (command) => send({ command: 'subscribe', identifier: identifier(command), history: command.history }),
    unsubscribe: (command) => send({ command: 'unsubscribe', identifier: identifier(command) }),
    perform: ({ action, data, ...command }) =>
      send({ command: 'message', identifier: identifier(command), data: JSON.stringify({ ...data, action }) }),
    history: ({ history, ...command }) => send({ command: 'history', identifier: identifier(command), history }),
    ack: ({ ack, ...command }) => send({ command: 'ack', identifier: identifier(command), ack }),
    /** A text in several fragments. */
    fragments: ({ texts }) => texts.forEach((text, at) => current.send(text, { fin: at === texts.length - 1 })),
    binary: ({ text }) => current.send(Buffer.from(text)),
    ping: () => current.ping(),
    close: () => current.close(1000),
  }
  connect()
  return commands
}

await run(async () => {
  const client = await { rails, legacy, anycable, ws }[options.client]()
  const commands = {
    ...client,
    cut: () => current.terminate(),
    pause: () => current.pause(),
    resume: () => current.resume(),
    /** The next connection goes there. */
    go: ({ url, token }) => {
      Object.assign(options, { url, ...(token && { token }) })
      client.address?.()
    },
  }
  await commanded((command) => commands[command.do](command))
})
