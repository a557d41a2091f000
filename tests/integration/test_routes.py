"""Routes that deliver nothing: mail that is discarded, and mail that is refused."""
import signal

from harness import equal, run_all, test, until
from relay import Ringpost, merge, relay_and_mx, route, yaml

CONTENT = b"Subject: probe\r\n\r\nhello\r\n"


def reload(relay, changes):
    relay.config = merge(relay.config, changes)
    relay.case.write(relay.name + ".yaml", yaml(relay.config) + "\n")
    before = relay.log().count("is read again and in use")
    relay.process.signal(signal.SIGHUP)
    until(lambda: relay.log().count("is read again and in use") > before, lambda: "the reload; log:\n%s" % relay.log()[-1500:])


@test
def what_is_discarded_ends_as_delivered_without_a_connection(t):
    relay = Ringpost(t, {"routes": [{"domain": "d.example", "action": "discard"}]})
    relay.send("a@b.example", ["one@d.example", "two@D.Example"], CONTENT)
    for event in relay.wait_outcomes(2):
        equal((event["type"], event["response"]["content"], event["response"]["code"]), ("Delivery", "discarded by a route", 250))
        equal("peer_address" in event, False)
    equal(relay.metrics()["ringpost_connections_total"], 0)
    equal(relay.metrics()["ringpost_delivered_total"], 2)
    until(lambda: relay.metrics()["ringpost_queued_messages"] == 0, "an empty queue")


@test
def what_is_refused_is_refused_recipient_by_recipient(t):
    relay, mx = relay_and_mx(t)
    reload(relay, {"routes": [route("*", (mx.address, mx.port)), {"domain": "no.example", "action": "reject"}]})
    with relay.client() as client:
        client.hello()
        client.ask("MAIL FROM:<a@b.example>", 250)
        refused = client.ask("RCPT TO:<one@No.example>", 550)
        equal("5.7.1" in str(refused), True, refused)
        client.ask("RCPT TO:<two@yes.example>", 250)
        client.ask("RCPT TO:<one@sub.no.example>", 250)
        client.ask("RSET", 250)
    event = relay.wait_event("Rejection")
    equal((event["recipient"], event["response"]["code"], event["response"]["command"]), ("one@No.example", 550, "RCPT"))


@test
def what_waits_already_bounces(t):
    relay, mx = relay_and_mx(t, {"queue": {"retry_initial": "500ms", "retry_max": "500ms"}}, script={"RCPT": lambda *_: "450 4.2.1 later"})
    relay.send("a@b.example", ["one@no.example", "two@d.example"], CONTENT)
    until(lambda: relay.tally().get("TransientFailure", 0) >= 2, "both to be put off")
    reload(relay, {"routes": [{"domain": "no.example", "action": "reject"}, {"domain": "*", "action": "discard"}]})
    ends = {event["recipient"]: event for event in relay.wait_outcomes(2)}
    bounce = ends["one@no.example"]
    equal((bounce["type"], bounce["response"]["code"], bounce["response"]["content"]), ("Bounce", 550, "rejected by a route"))
    equal((bounce["verdict"], bounce["category"], bounce["rule"]), ("soft", "policy", "route"))
    equal((ends["two@d.example"]["type"], ends["two@d.example"]["response"]["content"]), ("Delivery", "discarded by a route"))
    equal(mx.contents, [])


@test
def a_star_may_refuse_all_but_some(t):
    relay, mx = relay_and_mx(t)
    reload(relay, {"routes": [route("yes.example", (mx.address, mx.port)), {"domain": "*", "action": "reject"}]})
    relay.send("a@b.example", ["c@yes.example"], CONTENT)
    with relay.client() as client:
        client.hello()
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("RCPT TO:<c@other.example>", 550)
    equal(relay.wait_outcomes(1)[0]["type"], "Delivery")


if __name__ == "__main__":
    run_all()
