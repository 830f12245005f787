// Reads Server-Sent Events with the EventSource of a real browser, Debian's Chromium:
//
//   node sse-browser.mjs [--events a,b,c] [--chromium /usr/bin/chromium] URL...
//
// The page comes from a server of its own on another port, because about:blank has no origin: so every source is a
// cross-origin one and the hub's CORS answer is part of what is tested. Lines and end are those of sse-node.mjs, but a
// browser tells a page nothing about an error except whether the source will come back. A browser opens six connections
// to one origin over HTTP/1.1: give six URLs of one instance at most.

import { createServer } from 'node:http'
import { parseArgs } from 'node:util'
import { chromium } from 'playwright-core'
import { eventNames, run, say, untilQuit } from './ndjson.mjs'

const CHROMIUM_FLAGS = [
  '--headless',
  '--no-sandbox', // the tests run as root in containers, where Chromium's sandbox cannot start
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

const { values, positionals: urls } = parseArgs({
  allowPositionals: true,
  options: { events: { type: 'string' }, chromium: { type: 'string', default: '/usr/bin/chromium' } },
})

/** Serves one blank page; answers with its address. */
function servePage() {
  const server = createServer((_, response) => {
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' })
    response.end('<!doctype html><title>tidings</title>')
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${server.address().port}/`))
  })
}

/** Runs in the page. Lines of one turn go out together: a call out of the page costs more than an event. */
function openSources({ urls, types }) {
  let lines = []
  const put = (kind, fields) => {
    if (lines.length === 0) setTimeout(() => window.forward(lines.splice(0)))
    lines.push([kind, fields])
  }
  window.sources = urls.map((url, source) => {
    const events = new EventSource(url)
    events.addEventListener('open', () => put('open', { source }))
    events.addEventListener('error', () => put('error', { source, closed: events.readyState === EventSource.CLOSED }))
    for (const type of types) {
      events.addEventListener(type, (event) =>
        put(type === 'reset' ? 'reset' : 'event', { source, type: event.type, id: event.lastEventId, data: event.data }),
      )
    }
    return events
  })
}

await run(async () => {
  if (urls.length === 0) throw new Error('no URL given')
  // launch() makes a fresh profile folder for the browser and removes it when the browser ends.
  const browser = await chromium.launch({ executablePath: values.chromium, args: CHROMIUM_FLAGS })
  try {
    const page = await browser.newPage()
    const crashed = new Promise((_, reject) => {
      page.on('crash', () => reject(new Error('the page crashed')))
      browser.on('disconnected', () => reject(new Error('the browser ended')))
    })
    await page.exposeFunction('forward', (lines) => lines.forEach(([kind, fields]) => say(kind, fields)))
    await page.goto(await servePage())
    await page.evaluate(openSources, { urls, types: eventNames(values.events) })
    await Promise.race([untilQuit(), crashed])
  } finally {
    await browser.close()
  }
})
