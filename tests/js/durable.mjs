// Reads one topic with the Durable Streams client from npm:
//
//   node durable.mjs [--live long-poll|sse|catchup] [--offset X] [--as text|json] [--header 'name: value']... URL[,URL...]
//
// Several URLs, separated by commas, name the same topic on several instances and stand for a load balancer: when a
// connection fails, the next request goes to the next one. Lines: {"kind":"open","offset":…} per session, with
// the offset it starts from; per chunk, with the offset to go on from, {"kind":"raw","offset":…,"upToDate":…,"text":…},
// where `text` is the JSON array as the client hands it out, followed by {"kind":"item","offset":…,"json":…} for each of its
// items. `--as json` reads through the client's JSON interface, which gives items alone. Catch-up ends when it is level;
// live reading ends when standard input ends or says "quit".
//
// The client repeats requests that fail, for ever, with its own back-off. It does not survive a connection that breaks
// inside a body: then its session is over. Like any application would, this script says so with {"kind":"error",…} and
// opens a session at the last offset it was given. A refusal (4xx) is final: {"kind":"error","status":…} and status 1.

import { parseArgs } from 'node:util'
import { setTimeout as sleep } from 'node:timers/promises'
import { FetchError, stream } from '@durable-streams/client'
import { headers, message, run, say, untilQuit } from './ndjson.mjs'

/** Between two sessions: short, since the client's own back-off guards the requests of the next one. */
const SESSION_PAUSE_MS = 100

const LIVE = { 'long-poll': 'long-poll', sse: 'sse', catchup: false }

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    live: { type: 'string', default: 'long-poll' },
    offset: { type: 'string', default: '-1' },
    as: { type: 'string', default: 'text' },
    header: { type: 'string', multiple: true },
  },
})

/** A fetch that tries each of the instances once before it gives the failure to the client. */
function fetchFromAny(urls) {
  const origins = urls.map((url) => new URL(url).origin)
  let current = 0
  return async (url, init) => {
    const wanted = new URL(url)
    for (let tried = 1; ; tried++) {
      try {
        return await fetch(new URL(wanted.pathname + wanted.search, origins[current]), init)
      } catch (error) {
        if (init?.signal?.aborted || tried === origins.length) throw error
        current = (current + 1) % origins.length
        say('failover', { to: origins[current], message: message(error) })
      }
    }
  }
}

/** Says what one chunk brought. */
function pass({ text, items, offset, upToDate }) {
  if (text !== undefined) {
    say('raw', { offset, upToDate, text })
    items = [JSON.parse(text.trim() || '[]')].flat()
  }
  for (const json of items) say('item', { offset, json })
}

/** A session without live reading is one response, level or not: answers whether it was level. */
async function readPage(session) {
  const chunk = values.as === 'json' ? { items: await session.json() } : { text: await session.text() }
  pass({ ...chunk, offset: session.offset, upToDate: session.upToDate })
  return session.upToDate
}

/**
 * A live session, until it ends. `moved` is told every offset that was passed on. What the client hands out after the
 * session's end is left for the next session, which starts before it.
 */
async function readLive(session, moved) {
  let over = false
  const take = (chunk) => {
    if (over) return
    pass(chunk)
    moved(chunk.offset)
  }
  if (values.as === 'json') session.subscribeJson(take)
  else session.subscribeText(take)
  try {
    await session.closed
  } finally {
    over = true
  }
}

async function readAll(urls, signal) {
  const fetch = fetchFromAny(urls)
  const live = LIVE[values.live]
  let { offset } = values
  while (!signal.aborted) {
    try {
      const session = await stream({ url: urls[0], headers: headers(values.header), offset, live, json: true, warnOnHttp: false, fetch, signal })
      say('open', { offset })
      if (live) {
        await readLive(session, (next) => (offset = next))
      } else {
        if (await readPage(session)) return
        offset = session.offset
        continue
      }
    } catch (error) {
      if (signal.aborted) return
      const status = error instanceof FetchError ? error.status : undefined
      say('error', { offset, status, message: message(error) })
      if (status >= 400 && status < 500) throw error
    }
    await sleep(SESSION_PAUSE_MS)
  }
}

await run(async () => {
  if (positionals.length !== 1) throw new Error('exactly one URL (or URLs separated by commas) wanted')
  if (!(values.live in LIVE)) throw new Error(`--live is one of ${Object.keys(LIVE).join(', ')}`)
  if (!['text', 'json'].includes(values.as)) throw new Error('--as is text or json')
  const quit = new AbortController()
  const reading = readAll(positionals[0].split(','), quit.signal)
  if (values.live === 'catchup') return reading
  await Promise.race([reading, untilQuit()])
  quit.abort()
})
