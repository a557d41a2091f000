"""The spool between lives of the program: another number of shards, and looking into it."""
import json
import os
import subprocess

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


def look(relay, *arguments, where=None, status=0):
    """Output of `ringpost spool ARGUMENTS DIR`, as bytes; a directory is left as it was."""
    where = where or relay.config["spool"]["path"]
    done = subprocess.run([relay.binary, "spool", *arguments, where], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    equal(done.returncode, status, (done.stdout[-2000:] + done.stderr[-4000:]).decode(errors="replace"))
    return done.stdout, done.stderr.decode()


def files(path):
    found = {}
    for folder, _, names in os.walk(path):
        for name in names:
            with open(os.path.join(folder, name), "rb") as file:
                found[os.path.join(folder, name)] = file.read()
    return found


@test
def a_spool_is_looked_into(t):
    relay, _ = waiting_relay(t, 2)
    dots = b"Subject: dots\r\n\r\n.one\r\n..two\r\nno . here\r\n.\r\n...\r\n"
    contents = {}
    for recipients, content in ((["r1@d.example", "r2@d.example"], dots), (["\u00fc@d.example"], LONG), (["r3@d.example"], b".first\r\n")):
        parameters = " SMTPUTF8" if recipients[0][0] == "\u00fc" else ""
        contents[relay.send("a@b.example", recipients, content, parameters)] = (recipients, content)
    relay.wait_event("TransientFailure")
    _, said = look(relay, "verify", status=2)  # in use
    equal("is in use" in said and "when the relay is stopped" in said, True, said)
    out, said = look(relay, "dump")
    equal((len(out.splitlines()), "of no one moment" in said), (3, True), said)
    relay.stop()

    before = files(relay.config["spool"]["path"])
    out, said = look(relay, "verify")
    equal((out.count(b"\nspool ") + out.startswith(b"spool "), b"damaged=0" in out, b"damaged file" in out, said), (2, True, False, ""), out)
    out, said = look(relay, "dump")
    waiting = [json.loads(line) for line in out.splitlines()]
    equal(sorted(m["id"] for m in waiting), sorted(contents))
    for m in waiting:
        recipients, content = contents[m["id"]]
        equal(([r["recipient"] for r in m["recipients"]], m["sender"]), (recipients, "a@b.example"))
        equal({r["state"] for r in m["recipients"]} <= {"waiting", "deferred"}, True, m)
        equal(m["parts"] > 0, content is LONG)
        equal(all(r["next_try"] > m["created"] for r in m["recipients"] if r["attempts"] > 0), True, m)
        out, _ = look(relay, "dump", "--content", m["id"])
        equal((without_envelope_headers(out) == content, out.startswith(b"Received: ")), (True, True), out[:500])
        shard = os.path.basename(m["place"]["directory"])
        equal(look(relay, "dump", "--content", m["id"], where=os.path.join(relay.config["spool"]["path"], shard))[0] == out, True)
    look(relay, "dump", "--content", "0123456789abcdef", status=1)
    equal(files(relay.config["spool"]["path"]) == before, True, "nothing was changed")

    # With a newer segment behind it, what is missing from one is damage, and has a place.
    damaged = waiting[0]
    recipient, place = damaged["recipients"][0]["recipient"], damaged["place"]
    tries = len(relay.events("TransientFailure", recipient))
    relay.start()
    until(lambda: len(relay.events("TransientFailure", recipient)) > tries, "another attempt")
    relay.stop()
    names = [name for name in before if os.path.dirname(name) == place["directory"] and name.endswith(".seg")]
    name = next(name for name in names if int.from_bytes(before[name][12:16], "little") == place["segment"])
    with open(name, "r+b") as file:
        file.seek(place["offset"] + 100)
        file.write(b"\xff\x00\xff")
    out, _ = look(relay, "verify", status=1)
    line = b'damaged file=%s offset=%d why="a record\'s content does not match its hash; records ' % (name.encode(), place["offset"])
    equal(out.count(b"damaged file="), 1, out.decode())
    equal(line in out, True, out.decode())
    out, _ = look(relay, "dump")
    equal(damaged["id"].encode() in out, False)


@test
def a_gap_in_the_newest_segment_is_damage_as_the_relay_has_it(t):
    """Each commit was synced before the next, so one that cannot be read was answered for; with --lazy that is not known."""
    relay, _ = waiting_relay(t, 1)
    for number in range(4):
        relay.send("a@b.example", ["r%d@d.example" % number], b"Subject: %d\r\n\r\nhi\r\n" % number)
    relay.stop()
    look(relay, "verify")
    waiting = [json.loads(line) for line in look(relay, "dump")[0].splitlines()]
    place = min((m["place"] for m in waiting), key=lambda place: place["offset"])
    segments = [name for name in files(place["directory"]) if name.endswith(".seg")]
    (name,) = [name for name in segments if int.from_bytes(open(name, "rb").read(16)[12:16], "little") == place["segment"]]
    with open(name, "r+b") as file:
        file.seek(place["offset"] + 100)
        file.write(b"\xff\x00\xff")
    out, _ = look(relay, "verify", status=1)
    equal(b"records follow" in out and b"offset=%d" % place["offset"] in out, True, out.decode())
    equal(len(look(relay, "dump")[0].splitlines()), 3)
    out, _ = look(relay, "verify", "--lazy")
    equal(b"damaged=0" in out and b"a commit that was not finished" in out, True, out.decode())
    relay.start()
    equal("restored messages=3 damaged_segments=1" in relay.log(), True, relay.log()[-500:])


@test
def the_tool_refuses_what_it_does_not_understand(t):
    relay, _ = waiting_relay(t, 1)
    relay.stop()
    path = os.path.join(relay.config["spool"]["path"], "shard-000")
    for arguments, where in (
        (["verify"], os.path.join(path, "none")),
        (["verify"], t.directory(t.unique("empty"))),
        (["verify", path], path),
        (["verify", "--content", "0123456789abcdef"], path),
        (["dump", "--content", "17"], path),
        (["other"], path),
        (["--nonsense", "verify"], path),
    ):
        out, said = look(relay, *arguments, where=where, status=2)
        equal((out, len(said.splitlines()) in (1, 2), said.startswith("ringpost spool: ")), (b"", True, True), said)
    done = subprocess.run([relay.binary, "spool", "--help"], stdout=subprocess.PIPE, timeout=60)
    equal((done.returncode, b"verify [--lazy] DIR" in done.stdout), (0, True))


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
