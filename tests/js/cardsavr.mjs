// CardSavr's SDK as it is published, told what to do by the test:
//
//   node cardsavr.mjs '{"sdk":"3.4"}'      the newest, in node
//   node cardsavr.mjs '{"sdk":"3.3"}'      3.3.4, which refuses answers without a signature
//   node cardsavr.mjs '{"sdk":"page"}'     the newest in a page of Debian's Chromium, with WebCrypto and window.fetch
//
// Standard input brings commands, one JSON object a line, with what is to be done in `do` (see cardsavr-station.mjs) and a
// number `n`. Lines out: {"kind":"ready"}; {"kind":"done","n":…,…} or {"kind":"failed","n":…,…} for each command;
// {"kind":"event",…} for what listeners hear; {"kind":"unhandled","message":…} for a promise of the SDK's that nobody caught.
//
// The page has an origin of its own, so every call of its is a cross-origin one with a preflight before it. The SDK's files
// are CommonJS and name modules of node that they do not use in browsers: a page gets empty ones in their place.

import { createServer } from 'node:http'
import { readFileSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { request } from 'node:https'
import { dirname, join } from 'node:path'
import { station } from './cardsavr-station.mjs'
import { commanded, message, run, say } from './ndjson.mjs'

const require = createRequire(import.meta.url)
const options = JSON.parse(process.argv[2])

// The SDK prints what it catches; standard output is the protocol's here.
console.log = () => {}
process.on('unhandledRejection', (error) => say('unhandled', { message: message(error) }))

/** What of the SDK is used. */
const parts = (load) => ({
  ...load('CardsavrJSLibrary-2.0'),
  ...load('CardsavrHelper'),
  ...load('CardsavrSessionCrypto'),
})

/** A bare request, whatever the certificate. */
function ask(url, { method, headers, body }) {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers, rejectUnauthorized: false }, (answer) => {
      let text = ''
      answer.setEncoding('utf8')
      answer.on('data', (chunk) => (text += chunk))
      answer.on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, text }))
      answer.on('error', reject)
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

function inNode(name) {
  return station(parts((file) => require(`${name}/lib/cardsavr/${file}`)), say, ask)
}

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

/** Runs in the page: loads the SDK's files and puts a station on them. */
function furnish({ files, program, stationText }) {
  console.log = () => {}
  const modules = { 'node-fetch': {}, https: {}, 'https-proxy-agent': {}, crypto: {}, '../../package.json': program }
  const load = (name) => {
    if (name in modules) return modules[name]
    const file = name.replace('./', '')
    const module = { exports: {} }
    modules[name] = module.exports
    new Function('require', 'module', 'exports', files[file])(load, module, module.exports)
    return (modules[name] = module.exports)
  }
  const parts = { ...load('./CardsavrJSLibrary-2.0'), ...load('./CardsavrHelper'), ...load('./CardsavrSessionCrypto') }
  const say = (kind, fields) => void window.forward(kind, fields)
  const ask = async (url, init) => {
    const answer = await window.fetch(url, init)
    return { status: answer.status, headers: Object.fromEntries(answer.headers.entries()), text: await answer.text() }
  }
  window.addEventListener('unhandledrejection', ({ reason }) => say('unhandled', { message: String(reason?.message ?? reason) }))
  window.carryOut = new Function(`return ${stationText}`)()(parts, say, ask)
}

async function inPage() {
  const { chromium } = await import('playwright-core')
  const folder = join(dirname(require.resolve('@strivve/strivve-sdk/package.json')), 'lib/cardsavr')
  const names = readdirSync(folder).filter((name) => name.endsWith('.js'))
  const files = Object.fromEntries(names.map((name) => [name.replace(/\.js$/, ''), readFileSync(join(folder, name), 'utf8')]))
  const { version } = require('@strivve/strivve-sdk/package.json')
  const browser = await chromium.launch({
    executablePath: options.chromium ?? '/usr/bin/chromium',
    args: [
      '--headless',
      '--no-sandbox', // the tests run as root in containers, where Chromium's sandbox cannot start
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--ignore-certificate-errors', // the hub's is the test's own
    ],
  })
  const page = await browser.newPage()
  page.on('crash', () => say('fatal', { message: 'the page crashed' }))
  await page.exposeFunction('forward', say)
  await page.goto(await servePage())
  await page.evaluate(furnish, { files, program: { version }, stationText: station.toString() })
  const carryOut = (command) => page.evaluate((command) => window.carryOut(command), command)
  return { carryOut, end: () => browser.close() }
}

await run(async () => {
  const page = options.sdk === 'page' ? await inPage() : undefined
  const carryOut = page?.carryOut ?? inNode(options.sdk === '3.3' ? 'strivve-sdk-3.3' : '@strivve/strivve-sdk')
  say('ready')
  await commanded(carryOut)
  await page?.end()
})
