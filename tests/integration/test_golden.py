"""Spools that earlier versions wrote are read as they were meant: tests/golden/NAME.image, and what waits in it in NAME.json. Whoever changes the format adds an
image; none is ever made anew."""
import json
import os
import subprocess
import sys
import time

from fakemx import FakeMx
from harness import ROOT, equal, free_address, free_port, run_all, test, until
from relay import Ringpost, binary, route

GOLDEN = os.path.join(ROOT, "tests", "golden")
sys.path.insert(0, GOLDEN)
import images  # noqa: E402

AGE_LIMIT_S = 365 * 24 * 3600  # the largest queue.max_age


def names():
    return sorted(name[: -len(".image")] for name in os.listdir(GOLDEN) if name.endswith(".image"))


def unpacked(t, name):
    path = t.directory(t.unique("golden-" + name))
    with open(os.path.join(GOLDEN, name + ".image"), encoding="ascii") as file:
        images.unpack(file.read(), path)
    return path


def expected(name):
    with open(os.path.join(GOLDEN, name + ".json"), encoding="utf-8") as file:
        return json.load(file)


def counting(path):
    """The segments that have a sequence number."""
    folder = os.path.join(path, "shard-000")
    found = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            content = file.read()
        if any(content[12:16]):
            found[name] = content
    return found


def spool_tool(*arguments):
    done = subprocess.run([binary(), "spool", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    return done.returncode, done.stdout, done.stderr.decode()


@test
def each_image_is_read_as_it_was_meant(t):
    equal(len(names()) >= 7, True)
    for name in names():
        path, wanted = unpacked(t, name), expected(name)
        status, out, said = spool_tool("verify", path)
        equal(status, wanted["verify"], name + ": " + out.decode() + said)
        equal(wanted["says"] in out.decode() + said, True, name + ": " + out.decode() + said)
        status, out, said = spool_tool("dump", path)
        messages = [json.loads(line) for line in out.splitlines()]
        for message in messages:
            del message["place"]["directory"]
            _, content, _ = spool_tool("dump", "--content", message["id"], path)
            message["content"] = content.decode()
        equal(messages, wanted["messages"], name)
        with open(os.path.join(GOLDEN, name + ".image"), encoding="ascii") as file:
            equal(images.pack(path) == file.read(), True, name + " was changed by looking at it")


@test
def each_image_is_delivered_from(t):
    """A start reads it by another way than the tool: whoever waits gets his mail, and nobody else."""
    for name in names():
        path, wanted = unpacked(t, name), expected(name)
        address = free_address()
        port = free_port(address)
        config = {"shards": 1, "spool": {"path": path}, "routes": [route("*", (address, port))], "queue": {"max_age": "365d"}}
        relay = Ringpost(t, config, start=False, check=False, name=t.unique("relay-" + name))
        mx = FakeMx(t, address, port)
        relay.start(wait=wanted["starts"])
        if not wanted["starts"]:
            process = relay.process
            until(lambda: not process.running(), "a refusal")
            relay.process = None
            equal((process.wait(), wanted["says"] in process.log()), (1, True), process.log())
            equal(counting(path), counting(unpacked(t, name)), name + " was changed by a start that was refused")
            continue
        waiting = {}
        for message in wanted["messages"]:
            too_old = time.time() - message["created"] > AGE_LIMIT_S - 3600
            for recipient in message["recipients"]:
                if message.get("require_tls"):  # no host of this route could prove who it is
                    relay.wait_event("TransientFailure", recipient["recipient"])
                elif recipient["state"] in ("waiting", "deferred"):
                    waiting[recipient["recipient"]] = (message, recipient, "Expiration" if too_old else "Delivery")
        ends = relay.wait_outcomes(len(waiting))
        equal({end["recipient"]: end["type"] for end in ends}, {who: kind for who, (_, _, kind) in waiting.items()}, name)
        for end in ends:
            message, recipient, kind = waiting[end["recipient"]]
            equal((end["id"], end["sender"], end["created"]), (message["id"], message["sender"], message["created"]))
            equal(end["num_attempts"], recipient["attempts"] + (kind == "Delivery"), end)
        for received in mx.messages:
            for who in received.recipients:
                equal(received.content, waiting[who][0]["content"].encode())
        relay.stop()
        left = [json.loads(line)["id"] for line in spool_tool("dump", path)[1].splitlines()]
        equal(left, [message["id"] for message in wanted["messages"] if message.get("require_tls")], name)


if __name__ == "__main__":
    run_all()
