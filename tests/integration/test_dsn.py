"""Reports to senders (RFC 3464), read by Python's email package: of failure, delay and success, and when there are none."""
import email
import email.policy
import time

from fakemx import CAPABILITIES, FakeMx
from harness import equal, free_address, free_port, run_all, test, until
from mtas import Postfix
from relay import Ringpost, merge, relay_and_mx, route, yaml

CONTENT = b"Subject: probe\r\nX-Mark: here\r\n\r\n.a body\r\n..that is not short\r\n" + b"line\r\n" * 50
ON = {"dsn": {"send": True}}


def refuse(session, argument):
    return "550 5.1.1 nobody here\r\n".strip() if "bad" in argument else None


def reports(mx):
    return [message for message in mx.contents if message.sender == ""]


def wait_reports(mx, count):
    until(lambda: len(reports(mx)) >= count, lambda: "%d reports; there are %d" % (count, len(reports(mx))))
    return reports(mx)


def read(message):
    """The three parts of a report, and the fields of its message and recipients. Anything the parser has to say against it is a failure."""
    parsed = email.message_from_bytes(message.content, policy=email.policy.default)
    for part in parsed.walk():
        equal(part.defects, [], part.get_content_type())
    equal((parsed.get_content_type(), parsed.get_param("report-type")), ("multipart/report", "delivery-status"))
    text, status, original = parsed.get_payload()
    equal((text.get_content_type(), status.get_content_type()), ("text/plain", "message/delivery-status"))
    per_message, *per_recipient = status.get_payload()
    equal(per_message["Reporting-MTA"], "dns; relay.ringpost.example")
    return parsed, text.get_content(), per_message, per_recipient, original


@test
def a_failure_is_reported(t):
    relay, mx = relay_and_mx(t, ON, script={"RCPT": refuse})
    with relay.client() as client:
        client.hello()
        client.ask("MAIL FROM:<a@b.example> ENVID=ab+3Dc+2B", 250)
        client.ask("RCPT TO:<bad@d.example> ORCPT=rfc822;other+2Bone@e.example", 250)
        client.ask("RCPT TO:<good@d.example>", 250)
        client.ask("RCPT TO:<bad2@d.example>", 250)
        client.ask("DATA", 354)
        client.send(b"Subject: probe\r\nX-Mark: here\r\n\r\nbody\r\n.\r\n")
        client.expect(250)
        client.quit()
    (report,) = wait_reports(mx, 1)  # one for both
    equal(report.recipients, ["a@b.example"])
    parsed, text, per_message, per_recipient, original = read(report)
    equal((parsed["To"], parsed["Auto-Submitted"]), ("a@b.example", "auto-replied"))
    equal(str(parsed["From"]), "Mail Delivery System <MAILER-DAEMON@relay.ringpost.example>")
    equal("550 5.1.1" in text or "550 nobody here" in text, True, text)
    equal(per_message["Original-Envelope-Id"], "ab=c+")
    by_recipient = {fields["Final-Recipient"]: fields for fields in per_recipient}
    equal(set(by_recipient), {"rfc822; bad@d.example", "rfc822; bad2@d.example"})
    fields = by_recipient["rfc822; bad@d.example"]
    equal(fields["Original-Recipient"], "rfc822; other+one@e.example")
    equal((fields["Action"], fields["Status"], fields["Remote-MTA"]), ("failed", "5.1.1", "dns; " + mx.address))
    equal(fields["Diagnostic-Code"].startswith("smtp; 550 "), True, fields["Diagnostic-Code"])
    equal(original.get_content_type(), "text/rfc822-headers")
    equal(("X-Mark: here" in original.get_payload(), "body" in original.get_payload()), (True, False))
    equal(relay.metrics()["ringpost_dsn_sent_total"], 1)
    until(lambda: relay.metrics()["ringpost_queued_messages"] == 0, "an empty queue")
    equal(len(reports(mx)), 1)


@test
def all_of_it_comes_back_where_that_was_asked_for(t):
    relay, mx = relay_and_mx(t, merge(ON, {"dsn": {"return_max": "100KiB"}}), script={"RCPT": refuse})
    relay.send("a@b.example", "bad@d.example", CONTENT, "RET=FULL")
    relay.send("a@b.example", "bad@d.example", CONTENT, "RET=HDRS")
    relay.send("a@b.example", "bad@d.example", CONTENT + b"more\r\n" * 30000, "RET=FULL")  # beyond return_max
    relay.send("a@b.example", "bad@d.example", CONTENT + b"much more of that\r\n" * 200000, "RET=FULL")  # stored in parts
    relay.send("a@b.example", "bad@d.example", b"Subject: \xc3\xa9\r\n\r\n\xc3\xa9\r\n", "RET=FULL BODY=8BITMIME")
    kinds = {}
    for report in wait_reports(mx, 5):
        parsed, _, _, _, original = read(report)
        kinds.setdefault(original.get_content_type(), []).append((report, original))
    equal({kind: len(found) for kind, found in kinds.items()}, {"message/rfc822": 2, "text/rfc822-headers": 3})
    whole = {original.get_payload()[0]["Subject"]: (report, original) for report, original in kinds["message/rfc822"]}
    report, original = whole["probe"]
    equal(report.content.split(b"X-Mark: here\r\n\r\n")[1].split(b"\r\n--=_report")[0], CONTENT.split(b"\r\n\r\n", 1)[1])
    for _, original in kinds["text/rfc822-headers"]:
        equal("X-Mark: here" in original.get_payload(), True)


@test
def nobody_is_told_who_does_not_want_it(t):
    relay, mx = relay_and_mx(t, ON, script={"RCPT": refuse})
    relay.send("", "bad@d.example", CONTENT)
    with relay.client() as client:
        client.hello()
        for notify in ("NEVER", "SUCCESS", "DELAY"):
            client.ask("MAIL FROM:<a@b.example>", 250)
            client.ask("RCPT TO:<bad@d.example> NOTIFY=%s" % notify, 250)
            client.ask("DATA", 354)
            client.send(b"Subject: x\r\n\r\nx\r\n.\r\n")
            client.expect(250)
        client.quit()
    relay.wait_outcomes(4)
    until(lambda: relay.metrics()["ringpost_queued_messages"] == 0, "an empty queue")
    equal(reports(mx), [])
    off, other = relay_and_mx(t, {"dsn": {"send": False}}, script={"RCPT": refuse})
    off.send("a@b.example", "bad@d.example", CONTENT)
    off.wait_outcomes(1)
    until(lambda: off.metrics()["ringpost_queued_messages"] == 0, "an empty queue")
    equal(reports(other), [])


@test
def a_report_that_cannot_be_delivered_ends_quietly(t):
    relay, mx = relay_and_mx(t, ON, script={"RCPT": lambda *_: "550 5.1.1 nobody"})
    relay.send("a@b.example", "bad@d.example", CONTENT)
    relay.wait_outcomes(2)  # the message, and its report
    until(lambda: relay.metrics()["ringpost_queued_messages"] == 0, "an empty queue")
    equal(relay.metrics()["ringpost_dsn_sent_total"], 1)


@test
def success_is_reported_by_whoever_is_the_last_to_know(t):
    for capabilities, mine in ((CAPABILITIES, True), (CAPABILITIES + ("DSN",), False)):
        relay, mx = relay_and_mx(t, ON, capabilities=capabilities)
        with relay.client() as client:
            client.hello()
            client.ask("MAIL FROM:<a@b.example> RET=FULL ENVID=e1", 250)
            client.ask("RCPT TO:<r@d.example> NOTIFY=SUCCESS,FAILURE", 250)
            client.ask("DATA", 354)
            client.send(b"Subject: x\r\n\r\nbody\r\n.\r\n")
            client.expect(250)
            client.quit()
        relay.wait_outcomes(1)
        if not mine:
            until(lambda: relay.metrics()["ringpost_queued_messages"] == 0, "an empty queue")
            equal(reports(mx), [])
            continue
        (report,) = wait_reports(mx, 1)
        _, text, _, (fields,), original = read(report)
        equal((fields["Action"], fields["Status"][0], fields["Final-Recipient"]), ("relayed", "2", "rfc822; r@d.example"))
        equal((original.get_content_type(), "body" in original.get_payload()), ("text/rfc822-headers", False))


@test
def delay_is_reported_once_and_then_the_end(t):
    relay, mx = relay_and_mx(
        t,
        merge(ON, {"dsn": {"delay": "1s"}, "queue": {"retry_initial": "300ms", "retry_factor": 1, "max_age": "6s"}}),
        script={"RCPT": lambda _, argument: "451 4.2.0 later" if "slow" in argument else None},
    )
    relay.send("a@b.example", "slow@d.example", CONTENT)
    (report,) = wait_reports(mx, 1)
    _, text, _, (fields,), _ = read(report)
    equal((fields["Action"], fields["Status"]), ("delayed", "4.2.0"))
    equal(fields["Will-Retry-Until"] is not None, True)
    equal("need not send it again" in text, True, text)
    time.sleep(1)
    relay.stop()
    relay.start()  # it is remembered that the sender was told
    failed = wait_reports(mx, 2)[1]
    _, _, _, (fields,), _ = read(failed)
    equal((fields["Action"], fields["Status"]), ("failed", "5.4.7"))
    equal(len(reports(mx)), 2)


@test
def the_end_is_not_told_as_a_delay_first(t):
    relay, mx = relay_and_mx(
        t,
        merge(ON, {"dsn": {"delay": "500ms"}, "queue": {"retry_initial": "1s", "retry_jitter": "0%", "max_age": "1s"}}),
        script={"RCPT": lambda _, argument: "451 4.2.0 later" if "slow" in argument else None},
    )
    relay.send("a@b.example", "slow@d.example", CONTENT)
    relay.wait_event("Expiration")
    until(lambda: relay.metrics()["ringpost_queued_messages"] == 0, "an empty queue")
    equal([read(report)[3][0]["Action"] for report in reports(mx)], ["failed"])


@test
def a_delay_is_remembered_when_the_shards_become_fewer(t):
    address = free_address()
    mx = FakeMx(t, address, free_port(address), script={"RCPT": lambda _, argument: "451 4.2.0 later" if "slow" in argument else None})
    relay = Ringpost(
        t,
        merge(
            ON,
            {
                "shards": 4,
                "routes": [route("*", (mx.address, mx.port))],
                "dsn": {"delay": "500ms"},
                "queue": {"retry_initial": "300ms", "retry_factor": 1, "max_age": "8s"},
            },
        ),
    )
    for i in range(12):  # over all shards
        relay.send("s%d@b.example" % i, "slow%d@d.example" % i, CONTENT)
    told = wait_reports(mx, 12)
    equal({read(report)[3][0]["Action"] for report in told}, {"delayed"})
    relay.stop()
    relay.config["shards"] = 1
    with open(relay.config_path, "w", encoding="utf-8") as file:
        file.write(yaml(relay.config) + "\n")
    relay.start()
    ends = wait_reports(mx, 24)[12:]
    equal({read(report)[3][0]["Action"] for report in ends}, {"failed"})
    equal(sorted(report.recipients[0] for report in ends), sorted("s%d@b.example" % i for i in range(12)))
    until(lambda: relay.metrics()["ringpost_queued_messages"] == 0, "an empty queue")


@test
def what_dns_says_is_reported(t):
    address = free_address()
    mx = FakeMx(t, address, free_port(address))
    relay = Ringpost(t, merge(ON, {"routes": [route("b.example", (mx.address, mx.port))], "queue": {"max_age": "2s"}}))
    relay.send("a@b.example", "r@nowhere.example", CONTENT)
    (report,) = wait_reports(mx, 1)
    _, text, _, (fields,), _ = read(report)
    equal((fields["Action"], fields["Status"], fields["Remote-MTA"]), ("failed", "5.4.7", None))
    equal(fields["Diagnostic-Code"].startswith("x-ringpost; "), True)


@test
def a_flood_is_held_back(t):
    relay, mx = relay_and_mx(t, merge(ON, {"shards": 1, "dsn": {"rate": 5}}), script={"RCPT": refuse})
    for i in range(20):
        relay.send("a@b.example", "bad%d@d.example" % i, CONTENT)
    relay.send("c@b.example", "bad@d.example", CONTENT)  # another sender is not affected
    relay.wait_outcomes(21)
    until(lambda: relay.metrics()["ringpost_queued_messages"] == 0, "an empty queue")
    told = [report.recipients[0] for report in reports(mx)]
    equal(("c@b.example" in told, 5 <= told.count("a@b.example") <= 10), (True, True), told)  # a minute may have ended in between
    metrics = relay.metrics()
    equal(metrics["ringpost_dsn_sent_total"] + metrics["ringpost_dsn_suppressed_total"], 21)


@test
def utf8_addresses_have_their_own_form(t):
    relay, mx = relay_and_mx(t, ON, script={"RCPT": refuse})
    relay.send("a@b.example", "bäd-bad@d.example", "Subject: ü\r\n\r\nx\r\n".encode(), "SMTPUTF8")
    (report,) = wait_reports(mx, 1)
    equal("SMTPUTF8" in report.parameters, True, report.parameters)
    parsed = email.message_from_bytes(report.content, policy=email.policy.default)
    equal(parsed.get_param("report-type"), "global-delivery-status")
    equal([part.get_content_type() for part in parsed.get_payload()], ["text/plain", "message/global-delivery-status", "message/global-headers"])
    equal("Final-Recipient: utf-8; bäd-bad@d.example".encode() in report.content, True)


@test
def no_failure_is_lost_when_the_relay_is_killed(t):
    address = free_address()
    mx = FakeMx(t, address, free_port(address), script={"RCPT": refuse})
    relay = Ringpost(t, merge(ON, {"dsn": {"rate": 1000000}, "routes": [route("*", (mx.address, mx.port))]}), check=False)
    sent = []
    for _ in range(4):
        with relay.client() as client:
            client.hello()
            for _ in range(40):
                name = "bad%d@d.example" % len(sent)
                equal(client.message("s%d@b.example" % len(sent), [name], CONTENT).code, 250)
                sent.append(name)
        relay.kill9()
        relay.start()
    until(lambda: len({report.recipients[0] for report in reports(mx)}) == len(sent), "a report of each", timeout_s=60)
    until(lambda: relay.metrics()["ringpost_queued_messages"] == 0, "an empty queue")


@test
def postfix_takes_them(t):
    address = free_address()
    mx = FakeMx(t, address, free_port(address), script={"RCPT": refuse})
    postfix = Postfix(t)
    relay = Ringpost(
        t, merge(ON, {"routes": [route("d.example", (mx.address, mx.port)), route("b.example", (postfix.address, postfix.port))]})
    )
    relay.send("a@b.example", "bad@d.example", CONTENT, "RET=FULL")
    (stored,) = postfix.wait_messages(1)
    parsed = email.message_from_bytes(stored if isinstance(stored, bytes) else stored.content, policy=email.policy.default)
    equal(parsed.get_content_type(), "multipart/report")
    equal([part.get_content_type() for part in parsed.get_payload()], ["text/plain", "message/delivery-status", "message/rfc822"])


if __name__ == "__main__":
    run_all()
