// What the scripts of this folder share: one JSON object a line on standard output, so that the test which started the
// script can read it as it comes, and an end when the test says so or goes away.

/** Writes one line. Standard output is a pipe here, and on Linux node writes to pipes synchronously: nothing is lost at exit. */
export function say(kind, fields = {}) {
  process.stdout.write(JSON.stringify({ kind, ...fields }) + '\n')
}

/** Resolves when standard input ends (the test has died or let go) or brings the line "quit". */
export function untilQuit() {
  return eachLine((line) => line.trim() === 'quit')
}

/** Carries out the commands on standard input, one JSON object a line, until it ends. */
export function commanded(carryOut) {
  return eachLine((line) => void carryOut(JSON.parse(line)))
}

/** Hands over the lines of standard input, until it ends or a line is the last one. */
function eachLine(isLast) {
  return new Promise((resolve, reject) => {
    let text = ''
    process.stdin.setEncoding('utf8')
    process.stdin.on('data', (chunk) => {
      const lines = (text + chunk).split('\n')
      text = lines.pop()
      try {
        if (lines.some((line) => isLast(line))) resolve()
      } catch (error) {
        reject(error)
      }
    })
    process.stdin.on('end', resolve)
    process.stdin.on('error', resolve)
  })
}

/** Runs a script's main function: status 0 when it returns, 1 with a line of kind "fatal" when it throws. */
export async function run(main) {
  try {
    await main()
    process.exit(0)
  } catch (error) {
    say('fatal', { message: message(error) })
    process.exit(1)
  }
}

/** An error in one line, with the cause that node's fetch hides one level down. */
export function message(error) {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
  return error?.cause ? `${text} (${message(error.cause)})` : text
}

/** `--header 'name: value'`, as often as given, as one object. */
export function headers(texts = []) {
  return Object.fromEntries(
    texts.map((text) => {
      const colon = text.indexOf(':')
      if (colon < 1) throw new Error(`--header wants 'name: value', not '${text}'`)
      return [text.slice(0, colon).trim(), text.slice(colon + 1).trim()]
    }),
  )
}

/** `--events a,b,c` as the names an EventSource listens to; `message` and `reset` are always among them. */
export function eventNames(text = '') {
  return [...new Set(['message', 'reset', ...text.split(',').filter(Boolean)])]
}
