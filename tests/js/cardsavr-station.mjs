// What a test tells CardSavr's SDK to do, and what comes of it: the same in node and in a page of a browser, into which the
// text of this function is sent. So it may use nothing but what it is given, and what both have.

/**
 * `sdk` has the modules of one version of `@strivve/strivve-sdk`, `say` writes a line, `ask` makes a bare request.
 * Answers with what carries out one command; each is answered with one line of kind "done" or "failed" and its number `n`.
 */
export function station({ CardsavrSession, CardsavrHelper, CardholderQuery, Encryption, Signing }, say, ask) {
  const sessions = new Map()
  const queries = new Map()
  const helpers = new Map()

  const of = (map, as) => {
    if (!map.has(as)) throw new Error(`there is no ${as}`)
    return map.get(as)
  }
  /** An answer of the SDK's, which is an object with a body, or what a helper made of one. */
  const plain = (value) => {
    if (value?.statusCode === undefined) return { value: value ?? null }
    return { status: value.statusCode, body: value.body ?? null, headers: Object.fromEntries(value.headers.entries()) }
  }
  const failure = (error) => ({
    name: error?.type ?? error?.name ?? null,
    status: error?.statusCode ?? null,
    message: String(error?.message ?? error),
    errors: error?.errors ?? null,
    body: error?.response?.body ?? null,
  })
  /** Runs `act` up to its first wait as if it were `at`. */
  const frozen = (at, act) => {
    const { getTime } = Date.prototype
    Date.prototype.getTime = () => at
    try {
      return act()
    } finally {
      Date.prototype.getTime = getTime
    }
  }
  const make = ({ url, app, key, cert }) => new CardsavrSession(url, key, app, cert !== undefined, cert)

  const commands = {
    session: ({ as, ...where }) => void sessions.set(as, make(where)),
    call: ({ as, method, args = [] }) => of(sessions, as)[method](...args),
    /** Another object takes over a session as its own stored it. */
    restore: ({ as, from, ...where }) => {
      const session = make(where)
      session.deserializeSessionData(of(sessions, from).getSerializedSessionData())
      sessions.set(as, session)
    },
    /** The key that a session encrypts with becomes another one. */
    rekey: ({ as, key }) => void (of(sessions, as)._sessionData.sessionKey = key),
    /** The same call so many times in one millisecond. */
    burst: async ({ as, method, args = [], times }) => {
      const session = of(sessions, as)
      const calls = frozen(Date.now(), () => Array.from({ length: times }, () => session[method](...args)))
      const settled = await Promise.allSettled(calls)
      const status = ({ value, reason }) => value?.statusCode ?? reason?.statusCode ?? String(reason)
      return { value: settled.map((one) => ({ status: status(one), body: one.value?.body ?? null })) }
    },
    /** A request that the SDK's own functions sign and encrypt, changed afterwards. */
    raw: async ({ as, method = 'GET', path, signed = path, body, shift = 0, spoilt = false, clear, headers = {} }) => {
      const session = of(sessions, as)
      const key = session._sessionData.sessionKey
      const encrypted = body === undefined ? undefined : await Encryption.encryptRequest(key, body)
      const auth = await frozen(Date.now() + shift, () => Signing.signRequest(signed, session._appName, key, encrypted))
      if (spoilt) encrypted.encrypted_body = encrypted.encrypted_body.replace(/^./, (first) => (first === 'A' ? 'B' : 'A'))
      const wire = clear ?? (encrypted && JSON.stringify(encrypted))
      const all = { ...session._headers, ...auth, ...(wire !== undefined && { 'content-type': 'application/json' }), ...headers }
      Object.keys(all).forEach((name) => all[name] === null && delete all[name])
      const answer = await ask(new URL(path, session._baseUrl).href, { method, headers: all, body: wire })
      let json = null
      try {
        json = JSON.parse(answer.text)
        json = await Encryption.decryptResponse(key, json)
      } catch {
        // it is none, or for another key: the text is told
      }
      return { value: { ...answer, json } }
    },
    /** Whether somebody else's request is signed with a key. */
    verify: ({ url, app, key, headers, body }) => Signing.verifySignature(headers, url, app, [key], JSON.parse(body)),
    helper: ({ as, url, app, key, cert }) => {
      const helper = new CardsavrHelper()
      helpers.set(as, helper.setAppSettings(url, app, key, cert !== undefined, cert))
    },
    help: async ({ as, method, args = [] }) => {
      const made = await of(helpers, as)[method](...args)
      if (made instanceof CardsavrSession) sessions.set(`${as}/${args[0]}`, made)
      return made instanceof CardsavrSession ? { user: made.getSessionUserId() } : made
    },
    /** Listens to a cardholder; with `every`, more often than the SDK would. */
    query: ({ as, helper, username, cardholder, every }) => {
      const query = of(helpers, helper).createCardholderQuery(username, cardholder)
      if (every) query.interval = every
      queries.set(as, query)
    },
    listen: ({ as, job, type }) =>
      of(queries, as).addListener(job, (message) => say('event', { as, job, type: type ?? null, message }), type),
    unlisten: ({ as, job }) => of(queries, as).removeListeners(job),
    /** The documented poll loop, as it is printed but for its interval: ends by itself. */
    loop: ({ as, job, key, every }) =>
      new Promise((resolve, reject) => {
        const session = of(sessions, as)
        const items = []
        const broadcast_probe = setInterval(async () => {
          try {
            const update = await session.getJobStatusUpdate(job, key)
            if (update.status_code == 401) {
              clearInterval(broadcast_probe)
            } else if (update.body) {
              update.body.map((item) => {
                items.push(item)
                if (item.type === 'job_status') {
                  if (item.message.termination_type || item.message.percent_complete == 100) {
                    clearInterval(broadcast_probe)
                    resolve({ value: items })
                  }
                }
              })
            }
          } catch (error) {
            clearInterval(broadcast_probe)
            reject(error)
          }
        }, every)
      }),
  }

  return async ({ n, do: what, ...command }) => {
    try {
      const done = await commands[what](command)
      say('done', { n, ...(done?.value !== undefined ? done : plain(done)) })
    } catch (error) {
      say('failed', { n, ...failure(error) })
    }
  }
}
