"""Real clients to Ringpost to real servers: what one wrote is what the other has stored, byte by byte, but for added headers."""
import base64
import email.message
import email.policy
import os
import smtplib

from fakemx import CAPABILITIES
from harness import equal, run_all, test, until
from mtas import Exim, OpenSmtpd, Postfix, nodemailer, parse, swaks
from relay import Ringpost, relay_and_mx, route


def dotty(number):
    return (
        b"From: <a@b.example>\r\nTo: <c@d.example>\r\nSubject: dots %d\r\nMessage-ID: <%d@b.example>\r\nDate: Tue, 24 Nov 2026 00:00:00 +0000\r\n\r\n"
        b".\r\n..\r\n...three\r\n.begins\r\nends.\r\n\r\n \r\n\t\r\n..\r\nx .\r\n."
    ) % (number, number) + b"\r\n"


HEAD = b"From: <a@b.example>\r\nTo: <c@d.example>\r\nSubject: %s\r\nMessage-ID: <%s@b.example>\r\nDate: Tue, 24 Nov 2026 00:00:00 +0000\r\n"
LONG = HEAD % (b"long lines", b"long") + b"X-Long: " + b"h" * 900 + b"\r\n\r\n" + b"w" * 998 + b"\r\n" + b"v" * 990 + b"\r\n." + b"u" * 500 + b"\r\n"
EIGHT = (
    HEAD % (b"8 bit", b"eight")
    + b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    + "grüße aus köln, \u4f60\u597d, \U0001f4ee\r\n".encode()
    + bytes(range(128, 256))
    + b"\r\n"
)
EMPTY = HEAD % (b"no body", b"empty") + b"\r\n"
CONTENTS = (dotty(1), LONG, EIGHT, EMPTY)


def through(t, receiver, config=None):
    """A relay with all mail for this receiver."""
    return Ringpost(t, {"routes": [route("*", (receiver.address, receiver.port))], **(config or {})})


def with_smtplib(relay, contents, recipients=("c@d.example",), options=()):
    with smtplib.SMTP(relay.address, relay.port, local_hostname="python.example", timeout=30) as client:
        for content in contents:
            equal(client.sendmail("a@b.example", list(recipients), content, mail_options=list(options)), {})


def contents_arrive(t, receiver):
    relay = through(t, receiver)
    with_smtplib(relay, CONTENTS, options=["BODY=8BITMIME"])
    relay.wait_outcomes(len(CONTENTS))
    equal(relay.tally().get("Delivery"), len(CONTENTS))
    relay.stop()
    for have, want in zip(sorted(receiver.wait_messages(len(CONTENTS))), sorted(CONTENTS)):
        equal(have, want)


@test
def smtplib_to_postfix(t):
    contents_arrive(t, Postfix(t))


@test
def smtplib_to_exim(t):
    contents_arrive(t, Exim(t))


@test
def smtplib_to_exim_without_chunking(t):
    contents_arrive(t, Exim(t, chunking=False))


@test
def smtplib_to_opensmtpd(t):
    contents_arrive(t, OpenSmtpd(t))


@test
def a_line_too_long_for_the_rfc_arrives_whole(t):
    content = HEAD % (b"very long", b"very") + b"\r\n" + b"a" * 40000 + b"\r\n.\r\nafter\r\n"
    for capabilities in (CAPABILITIES, CAPABILITIES + ("CHUNKING",)):
        relay, mx = relay_and_mx(t, capabilities=capabilities)
        with_smtplib(relay, [content])
        relay.wait_outcomes(1)
        equal(mx.messages[0].content.endswith(content), True)


@test
def swaks_to_postfix(t):
    postfix = Postfix(t)
    relay = through(t, postfix)
    content = dotty(7) + b"end\r\n"  # swaks takes a lone dot at the end for an end
    transcript = swaks(relay, "a@b.example", "c@d.example", content)
    equal("queued as" in transcript, True)
    relay.wait_outcomes(1)
    equal(postfix.wait_messages(1), [content + b"\r\n"])  # swaks ends what it sends with an empty line


@test
def swaks_pipelined_to_exim(t):
    exim = Exim(t)
    relay = through(t, exim)
    content = dotty(8) + b"end\r\n"
    swaks(relay, "a@b.example", "one@d.example,two@d.example", content, options=["--pipeline"])
    relay.wait_outcomes(2)
    equal(exim.wait_messages(1)[0].rstrip(b"\r\n"), content.rstrip(b"\r\n"))


def attachment_arrives(t, receiver):
    relay = through(t, receiver)
    blob = os.urandom(200_000)
    messages = [
        {
            "from": "N\u00f6de <a@b.example>",
            "to": "c@d.example",
            "subject": "gr\u00fc\u00dfe \U0001f4ee %d" % i,
            "text": ".dot first\n..two\nk\u00f6ln\n",
            "html": "<p>k\u00f6ln</p>",
            "attachments": [{"filename": "blob %d.bin" % i, "content": base64.b64encode(blob).decode()}],
        }
        for i in range(3)
    ]
    for result in nodemailer(relay, messages, pool=True):
        equal((result["accepted"], result["rejected"]), (["c@d.example"], []))
    relay.wait_outcomes(3)
    equal(relay.tally().get("Delivery"), 3)
    for stored in receiver.wait_messages(3):
        message = parse(stored)
        parts = [part for part in message.walk() if part.get_filename()]
        equal([part.get_payload(decode=True) for part in parts], [blob])
        text = next(part for part in message.walk() if part.get_content_type() == "text/plain")
        equal(text.get_payload(decode=True).decode().replace("\r\n", "\n").rstrip("\n"), ".dot first\n..two\nk\u00f6ln")


@test
def nodemailer_to_postfix(t):
    attachment_arrives(t, Postfix(t))


@test
def nodemailer_to_exim(t):
    attachment_arrives(t, Exim(t))


@test
def utf8_addresses_from_smtplib_to_postfix(t):
    postfix = Postfix(t)
    relay = through(t, postfix)
    message = email.message.EmailMessage(policy=email.policy.SMTPUTF8)
    message["From"], message["To"], message["Subject"] = "p\u00e4ul@b.example", "gr\u00fc\u00df@d.example", "\u4f60\u597d"
    message.set_content("k\u00f6ln\n", cte="8bit")
    with smtplib.SMTP(relay.address, relay.port, local_hostname="python.example", timeout=30) as client:
        equal(client.send_message(message), {})
    end = relay.wait_outcomes(1)[0]
    equal((end["type"], end["recipient"]), ("Delivery", "gr\u00fc\u00df@d.example"))
    until(lambda: postfix.count() == 1, "the message")
    stored = postfix.stored()[0]
    equal("Return-Path: <p\u00e4ul@b.example>".encode() in stored, True)
    equal("gr\u00fc\u00df@d.example".encode() in stored, True)
    equal(postfix.messages()[0], message.as_bytes(policy=email.policy.SMTPUTF8))


@test
def sender_and_recipients_arrive_as_they_are(t):
    postfix = Postfix(t)
    relay = through(t, postfix)
    recipients = ["plain@d.example", "plus+tag@d.example", '"quoted local"@d.example', "UPPER@D.example"]
    with_smtplib(relay, [dotty(3)], recipients=recipients)
    relay.wait_outcomes(4)
    equal(relay.tally().get("Delivery"), 4)
    until(lambda: postfix.count() == 4, "a copy for each recipient")
    seen = {line.split(b": ", 1)[1].decode() for stored in postfix.stored() for line in stored.split(b"\n") if line.startswith(b"X-Original-To: ")}
    equal(
        seen,
        {recipient.replace('"quoted local"', "quoted local") for recipient in recipients} if "quoted local@d.example" in seen else set(recipients),
    )


@test
def unknown_users_of_postfix_bounce(t):
    postfix = Postfix(t, settings={"virtual_mailbox_maps": "inline:{known@d.example=all/}", "smtpd_reject_unlisted_recipient": "yes"})
    relay = through(t, postfix)
    with_smtplib(relay, [dotty(4)], recipients=["known@d.example", "unknown@d.example"])
    relay.wait_outcomes(2)
    bounce = relay.events("Bounce", "unknown@d.example")[0]
    equal((bounce["response"]["code"], bounce["verdict"]), (550, "hard"))
    equal(bounce["response"]["enhanced_code"], {"class": 5, "subject": 1, "detail": 1})
    equal(relay.events("Delivery")[0]["recipient"], "known@d.example")


# ---- pipelining over messages: hundreds over one connection, which each server must survive ----


def hundreds_over_one_connection(t, receiver, count):
    relay = through(t, receiver, {"shards": 1, "delivery": {"connections_per_site": 1, "messages_per_connection": 10000, "idle": "20s"}})
    contents = [CONTENTS[i % 3] for i in range(count)]
    with_smtplib(relay, contents, options=["BODY=8BITMIME"])
    relay.wait_outcomes(count, timeout_s=90)
    equal(relay.tally(), {"Reception": count, "Delivery": count})
    equal(relay.metrics()["ringpost_connections_total"], 1)
    relay.stop()
    return contents


@test
def three_hundred_over_one_connection_to_postfix(t):
    postfix = Postfix(t)
    contents = hundreds_over_one_connection(t, postfix, 300)
    equal(sorted(postfix.wait_messages(300)), sorted(contents))
    until(lambda: postfix.connections() == 1, lambda: "one connection in Postfix' log, not %d" % postfix.connections())
    if "improper command pipelining" in postfix.log():
        raise AssertionError("Postfix complains of improper pipelining")


@test
def three_hundred_over_one_connection_to_exim(t):
    exim = Exim(t)
    hundreds_over_one_connection(t, exim, 300)
    until(lambda: exim.log().count(" <= ") == 300, lambda: "300 messages in Exim's log, not %d" % exim.log().count(" <= "))
    until(lambda: exim.connections() == 1, lambda: "one connection in Exim's log, not %d" % exim.connections())
    if "synchronization error" in exim.log():
        raise AssertionError("Exim complains of a synchronization error")


@test
def a_hundred_over_one_connection_to_opensmtpd(t):
    """It does not offer PIPELINING, so this is one command at a time."""
    opensmtpd = OpenSmtpd(t)
    contents = hundreds_over_one_connection(t, opensmtpd, 100)
    equal(sorted(opensmtpd.wait_messages(100)), sorted(contents))
    equal(opensmtpd.connections(), 1)


run_all(2)
