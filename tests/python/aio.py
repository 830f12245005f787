"""One client of PyPI's aioactioncable: `python aio.py '{"url":"ws://…","token":"…"}'`.

Lines and commands are those of ../js/cable.mjs. The library sets no headers: the token goes into the address.
"""

import asyncio
import json
import logging
import sys
import threading

import aioactioncable

from lines import commands, leave, say


class Told(logging.Handler):
    """A refused connection shows in the library's log, and in that there is none."""

    def emit(self, record):
        text = record.getMessage()
        if "Disconnect reason" in text or "reconnect field" in text:
            say("frame", text=text)


logging.getLogger("aioactioncable.connect").addHandler(Told())
options = json.loads(sys.argv[1])
subscriptions = {}


def follow(name, subscription):
    """The library's `recv` blocks its thread, whatever loop it is awaited in."""

    async def receive():
        async for message in subscription:
            say("received", **{"as": name}, message=json.loads(message))

    threading.Thread(target=asyncio.run, args=(receive(),), daemon=True).start()


async def main():
    cable = await aioactioncable.connect(options["url"] + "?jid=" + options["token"])
    if cable is None:
        say("refused")
        return
    say("open")
    for command in commands():
        name = command.get("as")
        if command["do"] == "subscribe":
            subscription = await cable.subscribe({"channel": "EventChannel", **command["params"]})
            if subscription is None:
                say("rejected", **{"as": name})
                continue
            subscriptions[name] = subscription
            say("connected", **{"as": name})
            follow(name, subscription)
        elif command["do"] == "unsubscribe":
            await subscriptions[name].unsubscribe()
        elif command["do"] == "perform":
            await subscriptions[name].send({**command["data"], "action": command["action"]})


try:
    asyncio.run(main())
finally:
    leave()
