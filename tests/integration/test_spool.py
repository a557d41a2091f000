"""The spool between lives of the program: another number of shards, and looking into it."""
import os

from fakemx import FakeMx
from harness import equal, free_address, free_port, run_all, test, until
from mtas import without_envelope_headers
from relay import Ringpost, check_events, route

CONTENT = b"Subject: waiting\r\n\r\n" + (b"x" * 78 + b"\r\n") * 12
LONG = b"Subject: long\r\n\r\n" + b"".join(b"line %07d 0123456789012345678901234567890123456789\r\n" % i for i in range(50000))


def waiting_relay(t, shards):
    """What it takes waits: nobody listens at the only destination. Returns the relay, and how the destination is opened."""
    address = free_address()
    port = free_port(address)
    relay = Ringpost(t, {"shards": shards, "routes": [route("*", (address, port))], "queue": {"retry_initial": "1s", "retry_max": "1s"}})
    return relay, lambda: FakeMx(t, address, port)


def restart(t, relay, shards, wait=True):
    with open(relay.config_path) as file:
        lines = ["shards: %d\n" % shards if line.startswith("shards:") else line for line in file]
    t.write(relay.config_path, "".join(lines))
    relay.start(wait=wait)


def directories(relay):
    return sorted(os.listdir(relay.config["spool"]["path"]))


@test
def mail_stays_whatever_the_number_of_shards(t):
    relay, open_destination = waiting_relay(t, 4)
    sent = {}

    def send(life, count=20):
        for i in range(count):
            recipient = "r%d-%d@d%d.example" % (life, i, i % 3)
            sent[recipient] = LONG if i == 7 else CONTENT
            relay.send("a@b.example", recipient, sent[recipient])

    send(0)
    adopted = 0
    for life, shards in enumerate((2, 1, 3, 2), 1):
        relay.wait_event("TransientFailure")
        relay.stop()
        restart(t, relay, shards)
        log = relay.log()
        adopted += log.count("adopted the spool of shard")
        equal("damaged=0" in log or "adopted" not in log, True, log)
        equal(directories(relay), ["shard-%03d" % i for i in range(shards)])
        send(life)
    equal(adopted, 2 + 1 + 0 + 1)
    mx = open_destination()
    ends = relay.wait_outcomes(len(sent), timeout_s=60)
    equal({end["type"] for end in ends}, {"Delivery"})
    equal(sorted(mx.recipients), sorted(sent))
    for message in mx.messages:
        equal(without_envelope_headers(message.content) == sent[message.recipients[0]], True, "content unaltered")
    for end in ends:
        if end["recipient"].startswith("r0-"):
            equal(end["num_attempts"] >= 2, True, "attempts are remembered: %s" % end)
    check_events(relay.events(), finished=True)  # each Reception once: what was told of stays so


@test
def killed_while_it_adopts(t):
    """Again and again, as soon as a directory is on its way; then each message is delivered once."""
    relay, open_destination = waiting_relay(t, 4)
    recipients = ["r%d@d.example" % i for i in range(60)]
    for recipient in recipients:
        relay.send("a@b.example", recipient, LONG if recipient == "r9@d.example" else CONTENT)
    relay.stop()
    for i, shards in enumerate((1, 2, 1, 3, 4, 2, 1, 3, 1, 2)):
        restart(t, relay, shards, wait=False)
        states = ("leaving-", "left-", "ready")[i % 3]
        until(lambda: "ready" in relay.log() or any(name.startswith(states) for name in directories(relay)), "a start")
        relay.kill9()
    mx = open_destination()
    restart(t, relay, 2)
    relay.wait_outcomes(len(recipients), timeout_s=60)
    equal(sorted(mx.recipients), sorted(recipients))
    equal(directories(relay), ["shard-000", "shard-001"])


if __name__ == "__main__":
    run_all()
