"""The sending side against an MX that cuts off, drips, says nothing, or nothing that is SMTP."""
import socket

from fakemx import CAPABILITIES, Cut, Deaf, Drip, Raw, Silence
from fate import CONTENT, outcome, response
from harness import equal, free_address, free_port, run_all, test, until
from mtas import without_envelope_headers
from relay import Ringpost, relay_and_mx, route


@test
def cut_after_the_final_dot_may_be_a_duplicate(t):
    relay, mx = relay_and_mx(t, script={"FINAL": [Cut()]})
    equal(outcome(relay)["type"], "Delivery")
    equal([m.answer for m in mx.contents], ["gone", "250"])
    equal(relay.events("TransientFailure")[0].get("maybe_duplicate"), True)
    equal(relay.metrics()["ringpost_maybe_duplicate_total"], 1)


@test
def cut_after_the_last_chunk_may_be_a_duplicate(t):
    relay, mx = relay_and_mx(t, script={"FINAL": [Cut(), Cut(reset=True)]}, capabilities=CAPABILITIES + ("CHUNKING",))
    equal(outcome(relay)["type"], "Delivery")
    equal([m.answer for m in mx.contents], ["gone", "gone", "250"])
    failures = relay.events("TransientFailure")
    equal([failure.get("maybe_duplicate") for failure in failures], [True, True])
    equal({failure["response"]["content"].rsplit(" ", 1)[0] for failure in failures}, {"end of DATA: connection"})


@test
def cut_in_mid_reply_is_no_reply(t):
    relay, mx = relay_and_mx(t, script={"FINAL": [Cut("250 2.0.0 ta"), Cut("2", reset=True), Cut("250-2.0.0 more\r\n")]})
    equal(outcome(relay)["type"], "Delivery")
    equal([m.answer for m in mx.contents], ["gone"] * 3 + ["250"])


def survives_cut(t, stage):
    """Another connection at once or a deferral: both are fair, and neither is an end of the message."""
    relay, mx = relay_and_mx(t, script={stage: [Cut(), Cut(reset=True)]})
    equal(outcome(relay)["type"], "Delivery")
    equal(len(mx.contents), 1)
    equal([event.get("maybe_duplicate") for event in relay.events("TransientFailure")], [None] * len(relay.events("TransientFailure")))


def hammered(t, stage):
    """An MX that cuts off every time is not asked as fast as it can cut."""
    relay, mx = relay_and_mx(t, {"queue": {"max_age": "2s"}}, script={stage: lambda *_: Cut()})
    for i in range(3):
        relay.send("a@b.example", "r%d@d.example" % i, CONTENT)
    ends = relay.wait_outcomes(3)
    equal({end["type"] for end in ends}, {"Expiration"})
    equal(mx.connections <= 60, True, "%d connections in 2 s" % mx.connections)
    equal({event["recipient"] for event in relay.events("TransientFailure")}, {"r%d@d.example" % i for i in range(3)}, "each deferral has its event: ")


@test
def an_mx_that_always_cuts_at_the_greeting_is_not_hammered(t):
    hammered(t, "GREETING")


@test
def an_mx_that_always_cuts_at_mail_is_not_hammered(t):
    hammered(t, "MAIL")


@test
def an_mx_that_always_cuts_after_the_dot_is_not_hammered(t):
    hammered(t, "FINAL")


@test
def cut_at_the_greeting_is_retried(t):
    survives_cut(t, "GREETING")


@test
def cut_at_ehlo_is_retried(t):
    survives_cut(t, "EHLO")


@test
def cut_at_mail_is_retried(t):
    survives_cut(t, "MAIL")


@test
def cut_at_rcpt_is_retried(t):
    survives_cut(t, "RCPT")


@test
def cut_at_data_is_retried(t):
    survives_cut(t, "DATA")


@test
def cut_within_the_content_is_retried(t):
    """The MX leaves while megabytes are on their way to it."""
    relay, mx = relay_and_mx(t, script={"DATA": [Cut("354 go on\r\n"), Deaf("354 go on\r\n", 0.1)]})
    content = b"Subject: big\r\n\r\n" + (b"x" * 98 + b"\r\n") * 40000
    equal(outcome(relay, content=content)["type"], "Delivery")
    equal([without_envelope_headers(m.content) == content for m in mx.messages], [True])


@test
def a_reply_that_drips_for_longer_than_the_timeout_is_none(t):
    """Each byte comes in time; the reply does not."""
    relay, mx = relay_and_mx(t, {"delivery": {"timeouts": {"command": "1s"}}}, script={"MAIL": [Drip("250 " + "ok " * 100, 0.1)]}, lawful=False)
    end = outcome(relay)
    equal(end["type"], "Delivery")
    equal(end["timestamp"] - end["created"] < 8, True, "gave up in time")
    equal(len(mx.messages), 1)


@test
def replies_to_nothing_while_content_is_sent_end_the_connection(t):
    """The MX does not read the content, but writes and writes: that must not be kept for ever."""
    relay, _ = relay_and_mx(t, {"shards": 1}, script={"DATA": [Deaf("354 go on\r\n" + "250 and more\r\n" * 60000, 20)]}, lawful=False)
    end = outcome(relay, content=b"Subject: big\r\n\r\n" + (b"x" * 98 + b"\r\n") * 150000)
    equal(end["type"], "Delivery")
    equal(end["timestamp"] - end["created"] < 15, True, "gave up in time")
    equal("more replies" in relay.events("TransientFailure")[0]["response"]["content"], True, relay.events("TransientFailure"))


@test
def wrong_reply_counts_are_survived(t):
    """One reply too many, one too few: never a message marked with another's answer."""
    for script in ({"RCPT": [Raw(b"250 2.1.5 ok\r\n250 2.1.5 ok again\r\n")]}, {"FINAL": [Raw(b"250 a\r\n250 b\r\n")]}, {"MAIL": [Raw(b"")]}):
        relay, mx = relay_and_mx(
            t,
            {"delivery": {"connections_per_site": 1, "timeouts": {"command": "1s", "data": "1s", "final": "1s"}}, "shards": 1},
            script=script,
            lawful=False,
        )
        for i in range(4):
            relay.send("a@b.example", "r%d@d.example" % i, CONTENT)
        relay.wait_outcomes(4)
        equal(relay.tally().get("Delivery"), 4)
        equal(set(mx.recipients), {"r%d@d.example" % i for i in range(4)})


@test
def what_is_no_smtp_is_deferred(t):
    relay, _ = relay_and_mx(
        t,
        {"queue": {"max_age": "4s"}, "delivery": {"timeouts": {"greeting": "1s"}}},
        script={
            "GREETING": [
                Raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
                Raw(b"\x15\x03\x01\0\2\2\x46"),
                Raw(b"220" + b"x" * 100000 + b"\r\n"),
                Raw(b"220-a\r\n" * 20000),
            ]
        },
        lawful=False,
    )
    equal(outcome(relay)["type"] in ("Delivery", "Expiration"), True)
    equal(relay.tally().get("Bounce"), None)


def times_out(t, stage, capabilities=CAPABILITIES):
    timeouts = {"connect": "1s", "greeting": "1s", "command": "1s", "data": "1s", "final": "1s"}
    relay, mx = relay_and_mx(t, {"delivery": {"timeouts": timeouts}}, script={stage: [Silence()]}, capabilities=capabilities)
    end = outcome(relay)
    equal(end["type"], "Delivery")
    for failure in relay.events("TransientFailure"):
        equal((failure["response"]["code"] // 100, failure.get("maybe_duplicate")), (4, True if stage == "FINAL" else None))
    equal(1 <= end["timestamp"] - end["created"] < 15, True, "gave up in time")
    equal(len(relay.events("TransientFailure")) >= (stage == "FINAL"), True)
    until(lambda: mx.gauge.now <= 1, "the silent connection to be given up")


@test
def silence_at_the_greeting_times_out(t):
    times_out(t, "GREETING")


@test
def silence_at_ehlo_times_out(t):
    times_out(t, "EHLO")


@test
def silence_at_mail_times_out(t):
    times_out(t, "MAIL")


@test
def silence_at_rcpt_times_out(t):
    times_out(t, "RCPT", capabilities=("SIZE 100000",))


@test
def silence_at_data_times_out(t):
    times_out(t, "DATA")


@test
def silence_after_the_dot_times_out(t):
    times_out(t, "FINAL")


@test
def an_mx_that_accepts_nobody_times_out(t):
    """Its backlog is full, so the kernel does not even answer."""
    address = free_address()
    with socket.socket() as listener:
        listener.bind((address, free_port(address)))
        listener.listen(0)
        where = listener.getsockname()
        with socket.create_connection(where):  # fills the backlog
            relay = Ringpost(
                t,
                {
                    "routes": [route("*", where)],
                    "delivery": {"timeouts": {"connect": "700ms", "greeting": "700ms"}},
                    "queue": {"max_age": "3s"},
                },
            )
            equal(outcome(relay)["type"], "Expiration")
            failures = relay.events("TransientFailure")
            equal({(event["response"]["command"], event["response"]["content"]) for event in failures}, {("connect", "connect: timed out")})
            equal({(response(event), event["category"], event["rule"]) for event in failures}, {((421, "4.4.1"), "timeout", "connect-timeout")})


@test
def an_mx_that_does_not_read_times_out(t):
    """The content does not fit into the sockets' buffers, and nobody takes it from there."""
    relay, mx = relay_and_mx(t, {"delivery": {"timeouts": {"data": "1s"}}}, script={"DATA": [Deaf("354 go on\r\n", 15)]})
    end = outcome(relay, content=b"Subject: big\r\n\r\n" + (b"x" * 98 + b"\r\n") * 150000)
    equal(end["type"], "Delivery")
    equal(len(mx.messages), 1)
    equal(end["timestamp"] - end["created"] < 13, True, "gave up in time")


run_all()
