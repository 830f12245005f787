// A client of Bürokratt's dialect, told what to do by the test:
//
//   node burokratt.mjs '{"client":"node"}'
//   node burokratt.mjs '{"client":"chromium","port":4001,"foreign":4002,"events":["ready","gap"]}'
//
// `node` is npm's `eventsource`; `chromium` a page in Debian's Chromium, served from `port`, which is another origin than the
// hub's. Standard input brings commands, one JSON object a line, with what is to be done in `do`: see `commands` below.
// Lines out: {"kind":"open","as":…}, {"kind":"event","as":…,"type":…,"id":…,"data":…,"at":ms} and {"kind":"error","as":…,
// "closed":…,"at":ms} of a source; {"kind":"answer","as":…,"status":…,"body":…} or {"kind":"failed","as":…} of a request;
// {"kind":"shown","tab":…,"texts":[…]} when a page shows something else; {"kind":"done","as":…} for what has no other line.
//
// In Chromium a command may name a `tab`, which is made by {"do":"tab","tab":…,"page":…}; the first one is "main".

import { createServer } from 'node:http'
import { readFile } from 'node:fs/promises'
import { EventSource } from 'eventsource'
import { chromium } from 'playwright-core'
import { commanded, message, run, say } from './ndjson.mjs'

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

/** How long an element may take to be there: a busy machine with a browser on it. */
const PATIENCE_MS = 60_000

const options = JSON.parse(process.argv[2])
const types = ['message', 'ready', 'gap', 'session_expired', 'chat-list', 'queue', 'active-chats', 'health']

/** Runs in pages and in node: sources by name, and requests. `put` says a line. */
function client(EventSource, types, put) {
  const sources = {}
  return {
    open({ as, url, credentials }) {
      const source = new EventSource(url, { withCredentials: credentials === true })
      sources[as] = source
      source.addEventListener('open', () => put('open', { as, at: Date.now() }))
      source.addEventListener('error', (error) =>
        put('error', { as, closed: source.readyState === 2, status: error.code, at: Date.now() }),
      )
      for (const type of types) {
        source.addEventListener(type, (event) =>
          put('event', { as, type, id: event.lastEventId, data: event.data, at: Date.now() }),
        )
      }
    },
    close({ as }) {
      sources[as]?.close()
      put('done', { as })
    },
    /** As a page that goes says something. */
    beacon({ as, url, body }) {
      put('done', { as, sent: navigator.sendBeacon(url, body) })
    },
    async request({ as, url, method = 'GET', headers = {}, body, credentials }) {
      try {
        const answer = await fetch(url, { method, headers, body, credentials: credentials ? 'include' : 'same-origin' })
        put('answer', { as, status: answer.status, body: await answer.text(), at: Date.now() })
      } catch (error) {
        put('failed', { as, message: String(error) })
      }
    },
  }
}

/** npm's EventSource, with a cookie where one is given. */
async function node() {
  class Source extends EventSource {
    constructor(url, init) {
      const headers = options.cookie ? { cookie: options.cookie } : {}
      super(url, { ...init, fetch: (to, more) => fetch(to, { ...more, headers: { ...more.headers, ...headers } }) })
    }
  }
  const commands = client(Source, types, say)
  await commanded((command) => {
    if (command.do === 'quit') return true
    void commands[command.do](command)
  })
}

/** Serves the folder of pages; `/blank` is an empty one. */
function serve(port) {
  const server = createServer(async (request, response) => {
    const name = new URL(request.url, 'http://page').pathname.slice(1)
    response.setHeader('content-type', 'text/html; charset=utf-8')
    if (!/^[a-z0-9-]+$/.test(name)) return response.writeHead(404).end()
    if (name === 'blank') return response.end('<!doctype html><title>blank</title>')
    try {
      response.end(await readFile(new URL(`pages/${name}.html`, import.meta.url)))
    } catch {
      response.writeHead(404).end()
    }
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, '127.0.0.1', () => resolve())
  })
}

async function browser() {
  await serve(options.port)
  if (options.foreign) await serve(options.foreign)
  const started = await chromium.launch({ executablePath: options.chromium ?? '/usr/bin/chromium', args: CHROMIUM_FLAGS })
  try {
    const context = await started.newContext({ ignoreHTTPSErrors: true })
    const tabs = {}
    const open = async ({ tab, page: name, url }) => {
      const page = await context.newPage()
      page.setDefaultTimeout(PATIENCE_MS)
      page.on('crash', () => say('fatal', { message: `${tab} crashed` }))
      page.on('pageerror', (error) => say('threw', { tab, message: message(error) }))
      await page.exposeFunction('say', (kind, fields) => say(kind, { tab, ...fields }))
      await page.addInitScript(`window.hub = (${client})(window.EventSource, ${JSON.stringify(types)}, (k, f) => window.say(k, f))`)
      tabs[tab] = page
      await page.goto(url ?? `http://127.0.0.1:${options.port}/${name}`)
      say('tab', { as: tab })
    }
    const commands = {
      tab: open,
      reload: async ({ tab }) => {
        await tabs[tab].reload()
        say('done', { as: tab })
      },
      fill: async ({ tab, selector, text, enter, as }) => {
        await tabs[tab].locator(selector).fill(text)
        if (enter) await tabs[tab].locator(selector).press('Enter')
        say('done', { as })
      },
      click: async ({ tab, selector, as }) => {
        await tabs[tab].locator(selector).first().click()
        say('done', { as })
      },
      see: async ({ tab, selector, text, as }) => {
        await tabs[tab].locator(selector, { hasText: text }).first().waitFor()
        say('done', { as, texts: await tabs[tab].locator(selector).allInnerTexts() })
      },
      cookie: async ({ url, name, value, as }) => {
        await context.addCookies([{ name, value, url }])
        say('done', { as })
      },
      shot: async ({ tab, path, as }) => {
        await tabs[tab].screenshot({ path })
        say('done', { as })
      },
    }
    const inPage = (command) => tabs[command.tab ?? 'main'].evaluate((what) => void window.hub[what.do](what), command)
    await open({ tab: 'main', page: options.page ?? 'blank' })
    // One after the other: a click follows the tab it is in.
    let turn = Promise.resolve()
    await commanded((command) => {
      if (command.do === 'quit') return true
      turn = turn
        .then(() => (commands[command.do] ?? inPage)(command))
        .catch((error) => say('fatal', { message: `${JSON.stringify(command)}: ${message(error)}` }))
    })
  } finally {
    await started.close()
  }
}

await run(options.client === 'node' ? node : browser)
