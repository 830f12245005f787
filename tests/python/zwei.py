"""One client of PyPI's actioncablezwei: `python zwei.py '{"url":"ws://…","token":"…"}'`.

Lines and commands are those of ../js/cable.mjs. The token goes into the header.
"""

import json
import logging
import sys

from actioncable.connection import Connection
from actioncable.message import Message
from actioncable.subscription import Subscription

from lines import commands, leave, say


class Told(logging.Handler):
    """The library tells of its connection in its log alone, and takes its own callbacks from the socket."""

    WORDS = {"Connection established.": "open", "Subscription confirmed.": "connected", "Subscription rejected.": "rejected"}

    def emit(self, record):
        kind = self.WORDS.get(record.getMessage())
        if kind:
            say(kind)
        elif "disconnect" in record.getMessage() and "not supported" in record.getMessage():
            say("frame", text=record.getMessage())


options = json.loads(sys.argv[1])
logging.getLogger().setLevel(logging.DEBUG)
logging.getLogger().addHandler(Told())

connection = Connection(url=options["url"], header={"Authorization": "Bearer " + options["token"]})
subscriptions = {}


def subscribe(command):
    name = command["as"]
    identifier = {"channel": "EventChannel", **command["params"]}
    subscription = subscriptions[name] = Subscription(connection, identifier=identifier)
    subscription.on_receive(callback=lambda message: say("received", **{"as": name}, message=message))
    subscription.create()


for command in commands():
    if command["do"] == "connect":
        connection.connect()
    elif command["do"] == "subscribe":
        subscribe(command)
    elif command["do"] == "unsubscribe":
        subscriptions[command["as"]].remove()
    elif command["do"] == "perform":
        subscriptions[command["as"]].send(Message(action=command["action"], data=command["data"]))
leave()
