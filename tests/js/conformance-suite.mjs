// The file that vitest runs for conformance.mjs: the whole suite, with the cases skipped that conformance-cases.mjs leaves
// out. Skipped and not filtered, so that conformance.mjs hears of each of them and why.

import { runConformanceTests } from '@durable-streams/server-conformance-tests'
import { beforeEach } from 'vitest'
import { leftOut, nameOf } from './conformance-cases.mjs'

beforeEach((context) => {
  const reason = leftOut(nameOf(context.task))
  if (reason) context.skip(reason)
})

runConformanceTests({ baseUrl: process.env.CONFORMANCE_TEST_URL })
