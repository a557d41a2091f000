"""What became of one message, for tests that send one and look at its end."""
from harness import until

CONTENT = b"Subject: probe\r\n\r\nhello\r\n"


def outcome(relay, sender="a@b.example", recipient="c@d.example", content=CONTENT, parameters=""):
    """Sends one message; returns the event that ended it."""
    number = relay.send(sender, recipient, content, parameters)
    return until(lambda: relay.finals(number=number), lambda: "an end of %s; there are %s\n%s" % (number, relay.tally(), relay.log()[-1500:]))[0]


def response(event):
    code = event["response"].get("enhanced_code")
    return event["response"]["code"], "%(class)d.%(subject)d.%(detail)d" % code if code else None
