// Reads Server-Sent Events with npm's `eventsource`:
//
//   node sse-node.mjs [--events a,b,c] [--header 'name: value']... URL...
//
// Every URL is one source, numbered from 0. Lines: {"kind":"open","source":n}, {"kind":"event","source":n,"type":…,"id":…,
// "data":…}, the same with "kind":"reset" for an event of that name, and {"kind":"error","source":n,"closed":…,…}, where `closed`
// says that the source will not come back by itself. Ends when standard input ends or says "quit".

import { parseArgs } from 'node:util'
import { EventSource } from 'eventsource'
import { eventNames, headers, run, say, untilQuit } from './ndjson.mjs'

const { values, positionals: urls } = parseArgs({
  allowPositionals: true,
  options: { events: { type: 'string' }, header: { type: 'string', multiple: true } },
})

await run(async () => {
  if (urls.length === 0) throw new Error('no URL given')
  const extra = headers(values.header)
  const withHeaders = (url, init) => fetch(url, { ...init, headers: { ...init.headers, ...extra } })

  const sources = urls.map((url, source) => {
    const events = new EventSource(url, { fetch: withHeaders })
    events.addEventListener('open', () => say('open', { source }))
    events.addEventListener('error', (error) =>
      say('error', { source, closed: events.readyState === EventSource.CLOSED, status: error.code, message: error.message }),
    )
    for (const type of eventNames(values.events)) {
      events.addEventListener(type, (event) =>
        say(type === 'reset' ? 'reset' : 'event', { source, type: event.type, id: event.lastEventId, data: event.data }),
      )
    }
    return events
  })

  await untilQuit()
  for (const events of sources) events.close()
})
