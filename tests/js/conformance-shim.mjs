// Stands between the Durable Streams conformance suite and a hub, because the suite creates streams (PUT) and appends to
// them (POST), and a hub serves the protocol's read half only:
//
//   node conformance-shim.mjs HUB-URL KEY
//
// says {"kind":"listening","id":URL} and ends when standard input ends. What only a write half can answer is answered
// here: PUT and DELETE remember and forget a name, POST publishes to the topic conformance/<name> through /v1/events, and
// a name that was never PUT is not found. Every other GET, HEAD and OPTIONS is the hub's own, passed through as it is:
// query, status, headers, and the body as it comes.
//
// The suite reads most of its streams as text or bytes, and a hub knows JSON alone. Such an append is published as one JSON
// string with a character per byte, and a read's array of strings is joined again here: that, and the Content-Type, is all
// that changes on the way. Event streams are passed as they are for these names, too.

import { Agent, createServer, request } from 'node:http'
import { message, run, say, untilQuit } from './ndjson.mjs'

const JSON_TYPE = 'application/json'
/** What RFC 9110 §7.6.1 keeps to one connection; node writes its own. */
const HOP_BY_HOP = ['connection', 'keep-alive', 'transfer-encoding']
/** A hub closes idle connections after 10 s: none is used again that is older than half of this. */
const agent = new Agent({ keepAlive: true, timeout: 5_000 })

const [hub, key] = process.argv.slice(2)
/** Path of a stream → its content type and its topic. */
const streams = new Map()

/** An answer that is no success. */
class Refusal extends Error {
  constructor(status, text) {
    super(text)
    this.status = status
  }
}

/** Asks the hub; resolves with its answer as soon as there is a head. `asking` ends the request when it is given up. */
function ask(method, path, { headers = {}, body, asking }) {
  return new Promise((resolve, reject) => {
    const all = { ...headers, authorization: `Bearer ${key}` }
    delete all.host
    const upstream = request(new URL(hub), { method, path, headers: all, agent }, resolve)
    upstream.on('error', reject)
    asking?.on('close', () => upstream.destroy())
    upstream.end(body)
  })
}

async function whole(stream) {
  const chunks = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks)
}

const essence = (type) => type.split(';')[0].trim().toLowerCase()
const isJson = (stream) => essence(stream.type) === JSON_TYPE

/** The messages of a body: the elements of a JSON array, one JSON value, or everything as one string. */
function messages(stream, body) {
  if (body.length === 0) return []
  if (!isJson(stream)) return [body.toString('latin1')]
  try {
    return [JSON.parse(body)].flat()
  } catch (error) {
    throw new Refusal(400, message(error))
  }
}

const topicOf = (path) => `conformance/${path.split('/').at(-1)}`

/** Publishes; answers with the offset behind the last event. */
async function publish({ topic }, data) {
  const body = JSON.stringify(data.map((one) => ({ topic, type: 'append', data: one })))
  const answer = await ask('POST', '/v1/events', { headers: { 'content-type': JSON_TYPE }, body })
  const text = (await whole(answer)).toString()
  if (answer.statusCode !== 201) throw new Refusal(answer.statusCode, text)
  return JSON.parse(text).events.at(-1).id
}

async function tail({ topic }) {
  const answer = await ask('HEAD', `/v1/topics/${topic}`, {})
  answer.resume()
  return answer.headers['stream-next-offset']
}

async function create(path, type, body, origin) {
  const known = streams.get(path)
  if (known && essence(known.type) !== essence(type)) throw new Refusal(409, `it is ${known.type}`)
  if (known) return { status: 200, headers: { 'content-type': known.type, 'stream-next-offset': await tail(known) } }
  const stream = { type, topic: topicOf(path) }
  const data = messages(stream, body)
  const offset = data.length > 0 ? await publish(stream, data) : await tail(stream)
  streams.set(path, stream)
  return { status: 201, headers: { location: origin + path, 'content-type': type, 'stream-next-offset': offset } }
}

async function append(path, type, body) {
  const stream = existing(path)
  if (!type) throw new Refusal(400, 'no Content-Type')
  if (essence(type) !== essence(stream.type)) throw new Refusal(409, `it is ${stream.type}`)
  const data = messages(stream, body)
  if (data.length === 0) throw new Refusal(400, 'nothing to append')
  return { status: 204, headers: { 'stream-next-offset': await publish(stream, data) } }
}

function existing(path) {
  const stream = streams.get(path)
  if (!stream) throw new Refusal(404, 'it was never PUT')
  return stream
}

/** The hub's own answer to a read, or to the question whether a page of another origin may read. */
async function read(incoming, path, query, outgoing) {
  const stream = incoming.method === 'OPTIONS' ? { type: JSON_TYPE, topic: topicOf(path) } : existing(path)
  const search = query === undefined ? '?view=data' : `?${query}&view=data`
  const { method, headers } = incoming
  const answer = await ask(method, `/v1/topics/${stream.topic}${search}`, { headers, asking: outgoing })
  for (const name of HOP_BY_HOP) delete answer.headers[name]
  const foreign = !isJson(stream) && answer.statusCode === 200 && answer.headers['content-type'] === JSON_TYPE
  if (foreign) answer.headers['content-type'] = stream.type
  if (foreign && method === 'GET') {
    const strings = JSON.parse(await whole(answer))
    if (!strings.every((one) => typeof one === 'string')) throw new Refusal(502, 'the hub has other data')
    delete answer.headers['content-length']
    outgoing.writeHead(answer.statusCode, answer.headers).end(Buffer.from(strings.join(''), 'latin1'))
    return
  }
  outgoing.writeHead(answer.statusCode, answer.headers)
  outgoing.flushHeaders()
  answer.on('error', () => outgoing.destroy())
  answer.pipe(outgoing)
}

async function serve(incoming, outgoing) {
  const [, path, query] = /^([^?]*)(?:\?(.*))?$/s.exec(incoming.url)
  const { method, headers } = incoming
  const type = headers['content-type']
  const write = {
    PUT: async () => create(path, type ?? 'application/octet-stream', await whole(incoming), `http://${headers.host}`),
    POST: async () => append(path, type, await whole(incoming)),
    DELETE: () => {
      existing(path)
      streams.delete(path)
      return { status: 204 }
    },
  }[method]
  try {
    if (!write) return await read(incoming, path, query, outgoing)
    const { status, headers } = await write()
    outgoing.writeHead(status, headers).end()
  } catch (error) {
    if (outgoing.headersSent) outgoing.destroy()
    else outgoing.writeHead(error instanceof Refusal ? error.status : 502).end(message(error))
  }
}

await run(async () => {
  if (!hub || !key) throw new Error('the URL of a hub and a key wanted')
  const server = createServer(serve)
  await new Promise((resolve, reject) => server.once('error', reject).listen(0, '127.0.0.1', resolve))
  say('listening', { id: `http://127.0.0.1:${server.address().port}` })
  await untilQuit()
})
