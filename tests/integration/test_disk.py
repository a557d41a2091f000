"""A spool on a disk that is small, or full: mail is refused with 452 while nothing fits, what was taken is delivered, and then it goes on."""
import os
import subprocess
import time

from fakemx import FakeMx
from harness import equal, free_address, free_port, run_all, test, until
from mtas import need_root
from relay import Ringpost, route

CONTENT = b"Subject: big\r\n\r\n" + b"0123456789abcdef" * 4 * 1000 + b"\r\n"  # 64 KB


def small_disk(t, mebibytes):
    """A file system of its own, of this size."""
    need_root("a small disk is a tmpfs")
    path = t.directory(t.unique("disk"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%dm" % mebibytes, "tmpfs", path], check=True)
    t.at_end(subprocess.run, ["umount", "-l", path])
    return path


def flow(client, size):
    """Sends until so many bytes are taken, with a pause after each refusal; how many messages they were."""
    taken = refused = 0
    while taken * len(CONTENT) < size:
        reply = client.message("a@b.example", ["r%d@d.example" % taken], CONTENT)
        if reply.code == 250:
            taken += 1
        else:
            refused += 1
            equal((reply.code, reply.enhanced), (452, "4.3.1"))
            equal(refused < 2000, True, "taken %d, refused %d" % (taken, refused))
            time.sleep(0.005)
    return taken


def deaf_relay(t, disk, shards):
    """Its only destination is a port where nobody listens yet."""
    address = free_address()
    port = free_port(address)
    config = {"shards": shards, "spool": {"path": os.path.join(disk, "spool")}, "routes": [route("*", (address, port))]}
    config["spool"]["segment_size"] = "64MiB"
    return Ringpost(t, config), address, port


def fill(relay, wanted=None):
    """Sends until every shard has refused; how many were taken."""
    taken = refused_in_a_row = 0
    while refused_in_a_row < 20 and taken != wanted:
        with relay.client() as client:  # a new one each time: the kernel chooses the shard
            client.hello()
            reply = client.message("a@b.example", ["r%d@d.example" % taken], CONTENT)
            if reply.code == 250:
                taken += 1
                refused_in_a_row = 0
            else:
                equal((reply.code, reply.enhanced), (452, "4.3.1"))
                refused_in_a_row += 1
    return taken


@test
def a_small_disk_is_filled_drained_and_filled_again(t):
    for mebibytes, shards in ((68, 2), (30, 1)):  # 8 segments of 8 MiB would leave less than is to be left
        disk = small_disk(t, mebibytes)
        relay, address, port = deaf_relay(t, disk, shards)
        total = 0
        for round_ in range(3):
            taken = fill(relay)
            equal(taken * len(CONTENT) > (mebibytes << 20) / 3, True, "round %d: %d MiB took %d messages" % (round_, mebibytes, taken))
            until(lambda: "is full: new mail is refused (452)" in relay.log(), "a line that says so")
            free = os.statvfs(disk)
            equal(free.f_bavail * free.f_bsize >= (mebibytes << 20) / 16, True, "spool.min_free, a sixteenth of so small a disk: %d" % free.f_bavail)
            status, text = relay.health()
            equal((status, "spool full" in text), (503, True), text)
            if round_ == 1:
                relay.stop()
                relay.start()
            mx = FakeMx(t, address, port)
            total += taken
            relay.wait_outcomes(total, timeout_s=60)
            equal(len(set(mx.recipients)), taken)
            mx.close()
            until(lambda: relay.health()[0] == 200, "room on the disk")
        relay.stop()


@test
def one_that_waits_does_not_hold_a_small_disk(t):
    """Mail for one domain waits; that of another flows through twice the size of the disk."""
    disk = small_disk(t, 60)
    address, deaf = free_address(), free_address()
    port = free_port(address, deaf)
    mx = FakeMx(t, address, port)
    relay = Ringpost(
        t,
        {
            "shards": 1,
            "spool": {"path": os.path.join(disk, "spool"), "segment_size": "64MiB"},
            "routes": [route("deaf.example", (deaf, port)), route("*", (address, port))],
        },
    )
    waiting = taken = 0
    with relay.client() as client:
        client.hello()
        for _ in range(10):
            waiting += client.message("a@b.example", ["w%d@deaf.example" % waiting], b"Subject: small\r\n\r\nwaits\r\n").code == 250
            taken += flow(client, 12 << 20)
        client.quit()
    equal(waiting > 0, True)
    relay.wait_outcomes(taken, timeout_s=60)
    late = FakeMx(t, deaf, port)
    relay.wait_outcomes(taken + waiting, timeout_s=60)
    equal((len(mx.recipients), len(late.recipients)), (taken, waiting))


@test
def a_sender_that_dawdles_does_not_hold_a_small_disk(t):
    """Half of a long message has come, and nothing more: others flow, and it is refused in the end."""
    disk = small_disk(t, 30)
    address = free_address()
    port = free_port(address)
    FakeMx(t, address, port)
    relay = Ringpost(t, {"shards": 1, "spool": {"path": os.path.join(disk, "spool")}, "routes": [route("*", (address, port))]})
    with relay.client() as slow, relay.client() as client:
        slow.hello()
        slow.ask("MAIL FROM:<a@b.example>", 250)
        slow.ask("RCPT TO:<slow@d.example>", 250)
        slow.ask("DATA", 354)
        slow.send(CONTENT * 40)
        client.hello()
        taken = flow(client, 4 * (30 << 20))
        slow.send(b".\r\n")
        slow.expect(452, "4.3.1")
        slow.quit()
        client.quit()
    relay.wait_outcomes(taken, timeout_s=60)


if __name__ == "__main__":
    run_all()
