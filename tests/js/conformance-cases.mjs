// Which cases of the conformance suite examine reads of JSON, and why the others are left out. A group is left out whole,
// runs whole but for some cases, or runs a few. A group of the suite that is not here is an error, and so is a name here that
// the suite does not have: whoever takes a newer suite decides about what is new in it.

/** A case or group as the suite's runner knows it, as one name. */
export function nameOf(task) {
  const names = []
  for (let one = task; one && one.type !== 'module' && one.name; one = one.suite ?? one.parent) names.unshift(one.name)
  return names.join(' > ')
}

const WRITES = 'the write half (creating, appending, deleting): conformance-shim.mjs would be examined, not the hub'
const UNKNOWN = 'a topic needs no creation, so the hub finds every one; the 404 here would be the shim\'s'
const SEQUENCE = 'Stream-Seq orders appends: the write half'
const PRODUCERS = 'idempotent producers: the write half'
const EXPIRY = 'lifetimes of streams: events are retained for one time that is configured'
const CLOSURE = 'a topic does not close'
const FORKS = 'a topic does not fork'
const SUBSCRIPTIONS = 'subscriptions, webhooks and leases are another protocol on top of streams'
const TEXT = 'text mode: the body would be the shim\'s; JSON has a case of its own'
const BYTES = 'streams of bytes, as base64 in an event stream: a hub has JSON alone'

const whole = () => ({})
const but = (left) => ({ left })
const few = (run, rest) => ({ run, rest })

const PROPERTIES = 'Property-Based Tests (fast-check)'

const GROUPS = {
  'Basic Stream Operations': WRITES,
  'Append Operations': but({ 'should enforce sequence ordering with seq': SEQUENCE }),
  'Read Operations': whole(),
  'Long-Poll Operations': whole(),
  'HTTP Protocol': few(
    [
      'should return correct headers on GET',
      'should return empty body with up-to-date for empty stream',
      'should read from offset',
    ],
    WRITES,
  ),
  'Browser Security Headers': but({
    'should include X-Content-Type-Options: nosniff on PUT responses': WRITES,
    'should include X-Content-Type-Options: nosniff on POST responses': WRITES,
    'should include security headers on error responses': UNKNOWN,
  }),
  'TTL and Expiry Validation': EXPIRY,
  'Case-Insensitivity': WRITES,
  'Content-Type Validation': few(['should return stream content-type on GET'], WRITES),
  'HEAD Metadata': but({ 'should return 404 for non-existent stream': UNKNOWN }),
  'Offset Validation and Resumability': but({
    'should return empty body for offset=now on non-JSON streams': TEXT,
    'should return 404 for offset=now on non-existent stream': UNKNOWN,
    'should return 404 for offset=now with long-poll on non-existent stream': UNKNOWN,
    'should return 404 for offset=now with SSE on non-existent stream': UNKNOWN,
  }),
  'Protocol Edge Cases': but({
    'should reject empty POST body with 400': WRITES,
    'should enforce case-sensitive seq ordering': SEQUENCE,
    'should return Location header on 201': WRITES,
    'should reject missing Content-Type on POST': WRITES,
    'should accept PUT without Content-Type (use default)': WRITES,
  }),
  'Long-Poll Edge Cases': whole(),
  'TTL and Expiry Edge Cases': EXPIRY,
  'HEAD Metadata Edge Cases': EXPIRY,
  'TTL Expiration Behavior': EXPIRY,
  'Caching and ETag': whole(),
  'Chunking and Large Payloads': but({ 'should handle large payload appropriately': WRITES }),
  'Read-Your-Writes Consistency': whole(),
  'SSE Mode': but({
    'should handle newlines in text/plain payloads': TEXT,
    'should prevent CRLF injection in payloads - embedded event boundaries become literal data': TEXT,
    'base64 SSE catch-up pairs every data event with a control event': BYTES,
    'should auto-detect binary streams and return base64 encoded data in SSE mode': BYTES,
    'should include Stream-SSE-Data-Encoding header for binary streams': BYTES,
    'should base64 encode data events only, control events remain JSON': BYTES,
    'should handle empty binary payload with auto-detected base64 encoding': BYTES,
    'should handle large binary payload with auto-detected base64 encoding': BYTES,
    'should handle binary data with special bytes using auto-detected base64 encoding': BYTES,
    'should auto-detect base64 encoding for application/x-protobuf streams': BYTES,
    'should auto-detect base64 encoding for image/png streams': BYTES,
    'should handle offset=now with auto-detected base64 encoding for binary streams': BYTES,
  }),
  'JSON Mode': but({
    'should reject POST with empty array body': WRITES,
    'should reject invalid JSON with 400': WRITES,
    'should reject empty JSON arrays with 400': WRITES,
  }),
  [`${PROPERTIES} > Byte-Exactness Property`]: whole(),
  [`${PROPERTIES} > Operation Sequence Properties`]: whole(),
  [`${PROPERTIES} > Immutability Properties`]: whole(),
  [`${PROPERTIES} > Offset Validation Properties`]: whole(),
  [`${PROPERTIES} > Sequence Ordering Properties`]: SEQUENCE,
  [`${PROPERTIES} > Concurrent Writer Stress Tests`]: but({
    'concurrent writers with sequence numbers - server handles gracefully': SEQUENCE,
    'concurrent writers racing with incrementing seq values': SEQUENCE,
  }),
  [`${PROPERTIES} > State Hash Verification`]: whole(),
  'Idempotent Producer Operations': PRODUCERS,
  'Stream Closure': few(
    ['HEAD with Stream Closure > head-open-stream-no-closed-header: HEAD on open stream does NOT have Stream-Closed header'],
    CLOSURE,
  ),
  'Fork - Creation': FORKS,
  'Fork - Reading': FORKS,
  'Fork - Appending': FORKS,
  'Fork - Recursive': FORKS,
  'Fork - Live Modes': FORKS,
  'Fork - Deletion and Lifecycle': FORKS,
  'Fork - TTL and Expiry': FORKS,
  'Fork - JSON Mode': FORKS,
  'Fork - Edge Cases': FORKS,
  'Reserved subscription APIs': SUBSCRIPTIONS,
}

const groupOf = (name) => Object.keys(GROUPS).find((group) => name.startsWith(`${group} > `))

/** Why a case is left out; undefined when it runs. */
export function leftOut(name) {
  const group = groupOf(name)
  const rule = GROUPS[group]
  if (rule === undefined || typeof rule === 'string') return rule
  const rest = name.slice(`${group} > `.length)
  if (rule.run) return rule.run.includes(rest) ? undefined : rule.rest
  return rule.left?.[rest]
}

/** Where the suite, given its cases' names, and the groups above differ. */
export function differences(seen) {
  const named = Object.entries(GROUPS).flatMap(([group, { run, left }]) =>
    (run ?? Object.keys(left ?? {})).map((rest) => `${group} > ${rest}`),
  )
  const groups = new Set([...seen].map(groupOf))
  return [
    ...named.filter((name) => !seen.has(name)),
    ...Object.keys(GROUPS).filter((group) => !groups.has(group)),
    ...[...seen].filter((name) => groupOf(name) === undefined),
  ]
}
