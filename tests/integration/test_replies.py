"""The sending side against an MX that says what the script wants: every stage refused for now or for good, and whom that concerns."""
import re

from fakemx import CAPABILITIES, Drip, FakeMx, Slow
from fate import CONTENT, outcome, response
from harness import equal, free_address, free_port, run_all, test, until
from relay import Ringpost, check_events, relay_and_mx, route

COMMANDS = {
    "FINAL of BDAT": r"end of DATA|BDAT|DATA",
    "GREETING": "greeting|connect",
    "EHLO": "EHLO",
    "MAIL": "MAIL",
    "RCPT": "RCPT",
    "DATA": "DATA",
    "FINAL": r"end of DATA|\.",
}


def right_command(stage, event, capabilities):
    command = event["response"]["command"]
    if not re.search(COMMANDS[stage + " of BDAT" if stage == "FINAL" and "CHUNKING" in capabilities else stage], command):
        raise AssertionError("command %r of a failure at %s" % (command, stage))


def deferred_then_delivered(t, stage, reply, code, enhanced, capabilities=CAPABILITIES, **config):
    relay, mx = relay_and_mx(t, config, script={stage: [reply]}, capabilities=capabilities)
    end = outcome(relay)
    equal(end["type"], "Delivery")
    equal(len(mx.messages), 1)
    first = relay.events("TransientFailure")[0]
    equal(response(first), (code, enhanced))
    equal(first["verdict"], "soft")
    right_command(stage, first, capabilities)
    equal(first["num_attempts"] < end["num_attempts"], True, "attempts are counted")
    if "later please" not in first["response"]["content"]:
        raise AssertionError("content %r" % first["response"]["content"])


def bounced(t, stage, reply, code, enhanced, capabilities=CAPABILITIES, verdict=None):
    relay, mx = relay_and_mx(t, script={stage: reply}, capabilities=capabilities)
    end = outcome(relay)
    equal(end["type"], "Bounce")
    equal(response(end), (code, enhanced))
    right_command(stage, end, capabilities)
    equal("never ever" in end["response"]["content"], True, end["response"]["content"])
    equal(end["peer_address"]["addr"], mx.address)
    if verdict:
        equal(end["verdict"], verdict)
    equal(mx.messages, [])
    equal(relay.events("TransientFailure"), [])


@test
def greeting_4xx_defers(t):
    deferred_then_delivered(t, "GREETING", "421 4.3.2 later please", 421, "4.3.2")


@test
def ehlo_4xx_defers(t):
    deferred_then_delivered(t, "EHLO", "451 4.3.0 later please", 451, "4.3.0")


@test
def mail_4xx_defers(t):
    deferred_then_delivered(t, "MAIL", "451 4.7.1 later please", 451, "4.7.1")


@test
def rcpt_4xx_defers(t):
    deferred_then_delivered(t, "RCPT", "450 4.2.0 later please", 450, "4.2.0")


@test
def data_4xx_defers(t):
    deferred_then_delivered(t, "DATA", "451 later please", 451, None)


@test
def final_4xx_defers(t):
    deferred_then_delivered(t, "FINAL", "452-4.3.1 later please\r\n452 4.3.1 no room", 452, "4.3.1")


@test
def final_4xx_of_bdat_defers(t):
    deferred_then_delivered(t, "FINAL", "452 4.3.1 later please", 452, "4.3.1", capabilities=CAPABILITIES + ("CHUNKING",))


@test
def mail_5xx_bounces(t):
    bounced(t, "MAIL", "550 5.7.1 never ever", 550, "5.7.1")


@test
def rcpt_5xx_bounces(t):
    bounced(t, "RCPT", "550 5.1.1 never ever", 550, "5.1.1", verdict="hard")


@test
def data_5xx_bounces(t):
    bounced(t, "DATA", "554 5.6.0 never ever", 554, "5.6.0")


@test
def final_5xx_bounces(t):
    bounced(t, "FINAL", "554-5.7.1 never ever\r\n554 5.7.1 and I mean it", 554, "5.7.1")


@test
def final_5xx_of_bdat_bounces(t):
    bounced(t, "FINAL", "554 5.7.1 never ever", 554, "5.7.1", capabilities=CAPABILITIES + ("CHUNKING",))


@test
def greeting_5xx_is_no_delivery(t):
    """Whether it ends the message or only this host is up to outcome.c; the mail must not be lost without a word, and the event has the reply."""
    relay, mx = relay_and_mx(t, {"queue": {"max_age": "3s"}}, script={"GREETING": lambda *_: "554 5.3.2 never ever"})
    end = outcome(relay)
    first = [event for event in relay.events() if event["type"] in ("Bounce", "TransientFailure")][0]
    equal((end["type"] in ("Bounce", "Expiration"), first["response"]["code"]), (True, 554))
    equal(mx.verbs().count("MAIL"), 0)


@test
def a_good_reply_of_another_kind_is_still_good(t):
    relay, _ = relay_and_mx(t, script={"RCPT": "251 2.1.5 will forward", "FINAL": "250", "MAIL": "250"})
    equal(outcome(relay)["type"], "Delivery")


@test
def replies_that_drip_are_read(t):
    relay, _ = relay_and_mx(
        t, script={"GREETING": Drip("220-one\r\n220-two\r\n220 three"), "RCPT": Drip("250-2.1.5 a\r\n250 2.1.5 b"), "FINAL": Drip("250 2.0.0 ok")}
    )
    equal(outcome(relay)["type"], "Delivery")


@test
def shutdown_in_mid_session_is_retried(t):
    """421 to the third message of a connection: that one and what follows go over another connection."""
    count = {"mail": 0}

    def third(*_):
        count["mail"] += 1
        return "421 4.3.2 shutting down" if count["mail"] == 3 else None

    relay, mx = relay_and_mx(t, {"delivery": {"connections_per_site": 1}, "shards": 1}, script={"MAIL": third})
    for i in range(8):
        relay.send("a@b.example", "r%d@d.example" % i, CONTENT)
    relay.wait_outcomes(8)
    equal(relay.tally().get("Delivery"), 8)
    equal(sorted(mx.recipients), ["r%d@d.example" % i for i in range(8)])


@test
def no_room_for_a_lone_recipient_defers_it(t):
    relay, mx = relay_and_mx(t, script={"RCPT": ["452 later please"]})
    end = outcome(relay)
    equal(end["type"], "Delivery")
    equal([response(event) for event in relay.events("TransientFailure")], [(452, None)])
    equal(mx.verbs().count("RCPT"), 2)


def recipients_of(relay, number, kind):
    return sorted(event["recipient"] for event in relay.events(kind, number=number))


@test
def recipients_of_one_transaction_have_their_own_fates(t):
    def rcpt(session, to):
        who = to.split("@")[0]
        seen = session.mx.script.setdefault("seen", {})
        seen[who] = seen.get(who, 0) + 1
        return {"never": "550 5.1.1 no such user", "full": "552 5.2.2 mailbox full", "later": "450 4.2.1 later" if seen[who] == 1 else None}.get(who)

    relay, mx = relay_and_mx(t, script={"RCPT": rcpt})
    number = relay.send("a@b.example", [who + "@d.example" for who in ("one", "never", "two", "full", "later")], CONTENT)
    relay.wait_outcomes(5)
    equal(recipients_of(relay, number, "Delivery"), ["later@d.example", "one@d.example", "two@d.example"])
    equal(recipients_of(relay, number, "Bounce"), ["full@d.example", "never@d.example"])
    equal(recipients_of(relay, number, "TransientFailure"), ["later@d.example"])
    equal(sorted(map(sorted, (m.recipients for m in mx.messages))), [["later@d.example"], ["one@d.example", "two@d.example"]])
    check_events(relay.events(), finished=True)
    verdicts = {event["recipient"]: event["verdict"] for event in relay.events("Bounce")}
    equal(verdicts, {"never@d.example": "hard", "full@d.example": "soft"})


@test
def recipients_of_one_domain_share_a_transaction(t):
    relay, mx = relay_and_mx(t)
    relay.send("a@b.example", ["r%d@d.example" % i for i in range(40)], CONTENT)
    relay.wait_outcomes(40)
    equal([len(m.recipients) for m in mx.messages], [40])


@test
def rcptmax_of_the_mx_is_respected(t):
    relay, mx = relay_and_mx(t, capabilities=CAPABILITIES + ("LIMITS MAILMAX=100 RCPTMAX=7",))
    relay.send("a@b.example", ["r%d@d.example" % i for i in range(40)], CONTENT)
    relay.wait_outcomes(40)
    equal(relay.tally().get("Delivery"), 40)
    equal(sorted(mx.recipients), sorted("r%d@d.example" % i for i in range(40)))


@test
def mailmax_of_the_mx_is_respected(t):
    begun = {}

    def mail(session, _):
        begun[session.number] = begun.get(session.number, 0) + 1

    relay, mx = relay_and_mx(
        t, {"delivery": {"connections_per_site": 1}, "shards": 1}, script={"MAIL": mail}, capabilities=CAPABILITIES + ("LIMITS MAILMAX=3",)
    )
    for i in range(10):
        relay.send("a@b.example", "r%d@d.example" % i, CONTENT)
    relay.wait_outcomes(10)
    equal(len(mx.messages), 10)
    equal(max(begun.values()) <= 3, True, "messages per connection %s" % begun)


@test
def recipients_refused_by_452_for_their_number_go_in_further_transactions(t):
    """RFC 5321 4.5.3.1.10: 452 to the recipients beyond the limit is no failure of these addresses."""
    relay, mx = relay_and_mx(t, script={"RCPT": lambda session, _: "452 4.5.3 too many recipients" if len(session.recipients) >= 10 else None})
    relay.send("a@b.example", ["r%d@d.example" % i for i in range(35)], CONTENT)
    relay.wait_outcomes(35)
    equal(relay.tally().get("Delivery"), 35)
    equal(len(mx.recipients), 35)


@test
def without_pipelining_one_command_at_a_time(t):
    relay, mx = relay_and_mx(t, capabilities=("8BITMIME", "SIZE 1000000"))
    for i in range(5):
        relay.send("a@b.example", ["r%d@d.example" % i, "s%d@d.example" % i], CONTENT)
    relay.wait_outcomes(10)
    equal(len(mx.messages), 5)


@test
def ehlo_refused_falls_back_to_helo(t):
    for reply in ("502 5.5.1 what is that", "500 unknown"):
        relay, mx = relay_and_mx(t, script={"EHLO": lambda *_, reply=reply: reply})
        equal(outcome(relay)["type"], "Delivery")
        equal(mx.verbs()[:3], ["EHLO", "HELO", "MAIL"])
        equal(mx.messages[0].parameters, "")


@test
def too_big_for_the_mx_bounces(t):
    relay, mx = relay_and_mx(t, capabilities=("PIPELINING", "SIZE 2000", "8BITMIME", "ENHANCEDSTATUSCODES"))
    end = outcome(relay, content=CONTENT + (b"x" * 98 + b"\r\n") * 100)
    equal(end["type"], "Bounce")
    equal(response(end)[1], "5.3.4")
    equal(outcome(relay)["type"], "Delivery")
    equal(mx.verbs().count("DATA"), 1)


@test
def eight_bit_content_needs_8bitmime(t):
    relay, mx = relay_and_mx(t, capabilities=("PIPELINING", "SIZE 1000000"))
    end = outcome(relay, content="Subject: gr\u00fcn\r\n\r\ngr\u00fcn\r\n".encode(), parameters="BODY=8BITMIME")
    equal(end["type"], "Bounce")
    equal(response(end)[1], "5.6.3")
    equal(outcome(relay)["type"], "Delivery")
    equal(len(mx.contents), 1)


@test
def utf8_addresses_need_smtputf8(t):
    relay, mx = relay_and_mx(t, capabilities=("PIPELINING", "8BITMIME"))
    end = outcome(relay, recipient="gr\u00fc\u00df@d.example", parameters="SMTPUTF8")
    equal(end["type"], "Bounce")
    equal(response(end)[1], "5.6.7")
    equal(mx.contents, [])


@test
def nothing_is_sent_to_an_mx_that_will_not_talk(t):
    """A refused greeting may be answered with QUIT, but with nothing else."""
    relay, mx = relay_and_mx(t, script={"GREETING": ["554 5.3.2 no", "421 4.3.2 no"]}, lawful=False)
    outcome(relay)
    refused = [line for number, line in mx.commands if number <= 2 and line != "QUIT"] if mx.connections > 2 else []
    equal(refused, [])


@test
def two_sites_do_not_hold_each_other_up(t):
    slow_address, quick_address = free_address(), free_address()
    port = free_port(slow_address, quick_address)
    FakeMx(t, slow_address, port, script={"MAIL": lambda *_: Slow(3)}, lawful=False)
    quick = FakeMx(t, quick_address, port)
    relay = Ringpost(
        t, {"routes": [route("slow.example", (slow_address, port)), route("*", (quick_address, port))], "delivery": {"connections_per_site": 1}}
    )
    for i in range(20):
        relay.send("a@b.example", ["r%d@slow.example" % i, "r%d@quick%d.example" % (i, i)], CONTENT)
    quick.wait_recipients(20, timeout_s=20)
    equal(len([event for event in relay.finals() if event["queue"] == "slow.example"]) < 20, True)


def fates(relay):
    """Who was put off, and how often each one that was delivered had been tried."""
    deferred = sorted(event["recipient"] for event in relay.events("TransientFailure"))
    return deferred, {event["recipient"]: event["num_attempts"] for event in relay.events("Delivery")}


def a_message_is_deferred_and_no_other(t, stage, is_meant):
    """Three messages over one connection; the second, for two recipients, is put off as a whole."""
    count = {"put off": 0}

    def later(session, argument):
        if not is_meant(session, argument) or count["put off"]:
            return None
        count["put off"] += 1
        return "451 4.3.0 later please"

    relay, mx = relay_and_mx(
        t, {"shards": 1, "delivery": {"connections_per_site": 1}, "queue": {"retry_initial": "2s"}}, script={stage: later}
    )
    relay.send("one@b.example", ["r1@d.example", "r2@d.example"], b"Subject: one\r\n\r\nhello\r\n")
    relay.send("two@b.example", ["r3@d.example", "r4@d.example"], b"Subject: two\r\n\r\nhello\r\n")
    relay.send("three@b.example", ["r5@d.example"], b"Subject: three\r\n\r\nhello\r\n")
    relay.wait_outcomes(5)
    deferred, attempts = fates(relay)
    equal(deferred, ["r3@d.example", "r4@d.example"])
    equal(attempts, {"r%d@d.example" % i: 2 if i in (3, 4) else 1 for i in range(1, 6)})
    equal(mx.connections, 1)


@test
def mail_4xx_defers_the_message_and_no_other(t):
    a_message_is_deferred_and_no_other(t, "MAIL", lambda _, sender: sender == "two@b.example")


@test
def content_4xx_defers_the_message_and_no_other(t):
    a_message_is_deferred_and_no_other(t, "FINAL", lambda _, content: b"two" in content)


@test
def a_421_ends_the_session_and_not_the_site(t):
    """To the first command of a connection, when there is no other: with the default times a block would be seen as half a minute without mail."""
    for stage in ("MAIL", "RCPT", "DATA"):
        relay, mx = relay_and_mx(
            t,
            {"shards": 1, "delivery": {"connections_per_site": 1}, "queue": {"retry_initial": "5m", "retry_max": "4h"}},
            script={stage: ["421 4.3.2 enough"]},
        )
        for i in range(5):
            relay.send("a@b.example", "r%d@d.example" % i, CONTENT)
        relay.wait_outcomes(5, timeout_s=15)
        equal((relay.tally().get("Delivery"), relay.tally().get("TransientFailure")), (5, None))
        equal(mx.connections, 2)


@test
def greylisting_does_not_slow_the_site(t):
    """The first try of half of the recipients is refused for now, the others are taken: all connections stay at work, and nobody else waits."""
    seen = set()

    def rcpt(_, to):
        if not to.startswith("new") or to in seen:
            return None
        seen.add(to)
        return "451 4.7.1 greylisted, try again later"

    relay, mx = relay_and_mx(
        t,
        {"delivery": {"connections_per_site": 3}, "queue": {"retry_initial": "3s", "retry_max": "3s"}},
        script={"RCPT": rcpt, "FINAL": lambda *_: Slow(0.02)},
    )
    for i in range(40):
        relay.send("a@b.example", "%s%d@d.example" % ("new" if i % 2 else "known", i), CONTENT)
    until(lambda: relay.tally().get("Delivery", 0) >= 20, "the known recipients' mail")
    equal({event["recipient"][:3] for event in relay.events("Delivery")}, {"kno"}, "what is not put off comes first: ")
    relay.wait_outcomes(40)
    deferred, attempts = fates(relay)
    equal(deferred, sorted("new%d@d.example" % i for i in range(1, 40, 2)))
    equal({attempts["new%d@d.example" % i] for i in range(1, 40, 2)}, {2})
    equal({event["category"] for event in relay.events("TransientFailure")}, {"greylisted"})
    equal(mx.gauge.most, 3)
    equal(mx.connections <= 4, True, "%d connections: some were closed" % mx.connections)


@test
def a_host_that_greylists_everybody_is_not_slowed_down(t):
    """Nothing is taken for a while; still the host counts as well, and all come back at their time, over all connections."""
    seen = set()

    def rcpt(_, to):
        known = to in seen
        seen.add(to)
        return None if known else "450 4.2.0 greylisted"

    relay, mx = relay_and_mx(
        t,
        {"delivery": {"connections_per_site": 3}, "queue": {"retry_initial": "1s", "retry_max": "1s"}},
        script={"RCPT": rcpt, "FINAL": lambda *_: Slow(0.05)},
    )
    for i in range(30):
        relay.send("a@b.example", "r%d@d.example" % i, CONTENT)
    relay.wait_outcomes(30, timeout_s=15)
    equal({end["num_attempts"] for end in relay.finals()}, {2})
    equal((relay.tally().get("TransientFailure"), mx.gauge.most), (30, 3))


@test
def a_dead_host_is_remembered(t):
    """Each connection takes one message; only those that begin together may find out that nobody listens at the first host."""
    dead, live = free_address(), free_address()
    port = free_port(dead, live)
    mx = FakeMx(t, live, port)
    relay = Ringpost(
        t,
        {
            "routes": [route("*", (dead, port), (live, port))],
            "delivery": {"connections_per_site": 4, "messages_per_connection": 1},
            "queue": {"retry_initial": "5m", "retry_max": "4h"},
        },
    )
    for i in range(60):
        relay.send("a@b.example", "r%d@d.example" % i, CONTENT)
    relay.wait_outcomes(60)
    equal((len(mx.messages), relay.tally().get("TransientFailure")), (60, None))
    failed = relay.metrics()["ringpost_connections_failed_total"]
    equal(1 <= failed <= 8, True, "%d connects to a dead host" % failed)


@test
def a_site_that_failed_is_probed_by_one_connection(t):
    """Thirty wait for it when it is back: it sees one connection until that has ended a transaction."""
    address = free_address()
    port = free_port(address)
    relay = Ringpost(
        t,
        {
            "routes": [route("*", (address, port))],
            "delivery": {"connections_per_site": 6},
            "queue": {"retry_initial": "1s", "retry_factor": 1, "retry_max": "1s"},
        },
    )
    for i in range(30):
        relay.send("a@b.example", "r%d@d.example" % i, CONTENT)
    until(lambda: relay.tally().get("TransientFailure", 0) >= 30, "all to be put off")
    at_first_end = []

    def final(session, _):
        if not at_first_end:
            at_first_end.append(session.mx.connections)
            return Slow(0.5)
        return Slow(0.05)

    mx = FakeMx(t, address, port, script={"GREETING": [Slow(0.7)], "FINAL": final})
    relay.wait_outcomes(30)
    equal((relay.tally().get("Delivery"), at_first_end), (30, [1]))
    equal(mx.gauge.most > 1, True, "and then all may: ")


@test
def a_host_that_says_421_to_every_message_is_not_hammered(t):
    relay, mx = relay_and_mx(t, {"queue": {"max_age": "2s"}}, script={"MAIL": lambda *_: "421 4.7.0 not now"})
    for i in range(3):
        relay.send("a@b.example", "r%d@d.example" % i, CONTENT)
    equal({end["type"] for end in relay.wait_outcomes(3)}, {"Expiration"})
    equal(mx.connections <= 60, True, "%d connections in 2 s" % mx.connections)


run_all(6)
