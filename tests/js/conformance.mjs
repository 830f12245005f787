// Runs the published Durable Streams conformance suite:
//
//   node conformance.mjs URL
//
// against a server with both halves of the protocol (here: conformance-shim.mjs in front of a hub). Lines: {"kind":"case",
// "type":"passed"|"failed"|"skipped","id":…,"message":…} for each case, where `id` is its group and name and `message` says
// what failed or why it was left out; then {"kind":"end"}. Failed cases do not end it with another status: the reader of the
// lines decides. An error outside of the cases is a line of kind "fatal" and status 1.

import { createRequire } from 'node:module'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { differences, leftOut, nameOf } from './conformance-cases.mjs'
import { run, say } from './ndjson.mjs'

/** Room for a busy machine: the cases that wait for a long-poll to give up take as long as it does. */
const CASE_TIMEOUT_MS = 20_000

/** The suite's own vitest: its cases register themselves with the module that it imports. */
async function vitest() {
  const suite = createRequire(fileURLToPath(import.meta.resolve('@durable-streams/server-conformance-tests')))
  return import(pathToFileURL(suite.resolve('vitest/node')))
}

/** Says each case as a line. */
class Lines {
  seen = new Set()

  onTestCaseResult(test) {
    const result = test.result()
    const id = nameOf(test)
    this.seen.add(id)
    const reason = leftOut(id)
    // A case that skips itself examined nothing.
    const type = result.state === 'skipped' && !reason ? 'failed' : result.state
    const why = result.errors?.map((error) => error.message).join('; ')
    say('case', { type, id, message: reason ?? why ?? '' })
  }

  onTestRunEnd(_modules, errors) {
    this.errors = errors
  }
}

await run(async () => {
  const [url] = process.argv.slice(2)
  if (!url) throw new Error('the URL of a server wanted')
  const { startVitest } = await vitest()
  const lines = new Lines()
  const session = await startVitest(
    'test',
    [],
    {
      root: fileURLToPath(new URL('.', import.meta.url)),
      include: ['conformance-suite.mjs'],
      config: false,
      watch: false,
      cache: false,
      reporters: [lines],
      testTimeout: CASE_TIMEOUT_MS,
      env: { CONFORMANCE_TEST_URL: url },
    },
    {},
    // Standard output is for our lines alone.
    { stdout: process.stderr },
  )
  await session.close()
  if (lines.errors?.length > 0) throw new Error(lines.errors.map((error) => error.message).join('; '))
  const differing = differences(lines.seen)
  if (differing.length > 0) throw new Error(`conformance-cases.mjs does not fit this suite: ${differing.join('; ')}`)
  say('end')
})
