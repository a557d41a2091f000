"""SIGHUP and `ringpost ctl reload`: what changes, what stays, and that no session or message suffers from it."""
import http.client
import os
import signal
import socket
import threading
import time

from fakemx import FakeMx, Gauge, Slow
from harness import equal, free_address, free_port, run_all, run_program, test, until
from relay import Ringpost, binary, merge, relay_and_mx, route, yaml
from smtp import Client, Closed

CONTENT = b"Subject: reload\r\n\r\nhello\r\n"
IN_USE, REFUSED = "is read again and in use", "the configuration stays as it is"


def write(relay, changes):
    relay.config = merge(relay.config, changes)
    relay.case.write(os.path.basename(relay.config_path), yaml(relay.config) + "\n")


def said(relay, text):
    return relay.log().count(text)


def reload(relay, changes, expected=IN_USE):
    """By signal; returns when the relay has said what came of it."""
    before = said(relay, expected)
    write(relay, changes)
    relay.process.signal(signal.SIGHUP)
    until(lambda: said(relay, expected) > before, lambda: "%r; log:\n%s" % (expected, relay.log()[-1500:]))


def ctl_reload(relay):
    return run_program([binary(), "ctl", "--http", "%s:%d" % (relay.address, relay.http_port), "reload"])


def post_reload(relay):
    """As ctl_reload, without a process for each: (status, body)."""
    connection = http.client.HTTPConnection(relay.address, relay.http_port, timeout=20)
    connection.request("POST", "/api/v1/reload", "{}", {"Content-Type": "application/json"})
    reply = connection.getresponse()
    status, body = reply.status, reply.read().decode()
    connection.close()
    return status, body


def is_taken(listener):
    """Does anybody listen there? To be asked in no time."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listener["address"], listener["port"]))
        except OSError:
            return True
    return False


def can_connect(address, port):
    try:
        with Client(address, port, timeout_s=5) as client:
            client.expect(220)
            return True
    except (ConnectionError, OSError, Closed):
        return False


@test
def limits_change_for_sessions_that_are_open(t):
    relay = Ringpost(t, {"limits": {"recipients": 1, "message_size": "10KiB"}, "routes": [route("*", (free_address(), 9))]})
    with relay.client() as client:
        client.hello()
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("RCPT TO:<r1@c.example>", 250)
        client.ask("RCPT TO:<r2@c.example>", 452)
        reload(relay, {"limits": {"recipients": 3, "message_size": "20KiB"}})
        client.ask("RCPT TO:<r2@c.example>", 250)
        client.ask("RCPT TO:<r3@c.example>", 250)
        client.ask("RCPT TO:<r4@c.example>", 452)
        client.ask("DATA", 354)
        client.send(b"Subject: s\r\n\r\n" + b"x" * 70 * 200 + b"\r\n.\r\n")
        client.expect(250)
        client.quit()
    with relay.client() as client:
        equal("SIZE 20480" in client.hello().lines, True, "SIZE is announced anew")


@test
def routes_change_also_for_what_is_ready_or_deferred(t):
    old, new = (free_address(), free_port("127.0.0.1")), free_address()
    relay = Ringpost(t, {"routes": [route("*", old)], "queue": {"retry_initial": "2s", "retry_max": "2s"}})
    for i in range(20):
        relay.send("a@b.example", ["r%d@c%d.example" % (i, i % 3)], CONTENT)
    relay.wait_event("TransientFailure")
    mx = FakeMx(t, new, free_port(new))
    reload(relay, {"routes": [route("*", (new, mx.port))]})
    relay.wait_outcomes(20)
    equal(len(mx.recipients), 20)
    equal(len(set(mx.recipients)), 20, "once each")


@test
def listeners_come_and_go_and_their_sessions_stay(t):
    mx_address = free_address()
    mx = FakeMx(t, mx_address, free_port(mx_address))
    relay = Ringpost(t, {"routes": [route("*", (mx_address, mx.port))]})
    old_port, new_port = relay.port, free_port(relay.address)
    with relay.client() as client:
        client.hello()
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("RCPT TO:<one@c.example>", 250)
        client.ask("DATA", 354)
        client.send(b"Subject: half\r\n")
        reload(relay, {"listeners": [{"address": relay.address, "port": new_port}]})
        until(lambda: not can_connect(relay.address, old_port), "the old port to be closed")
        equal(can_connect(relay.address, new_port), True, "the new port")
        client.send(b"\r\nand the other half\r\n.\r\n")
        client.expect(250)
        equal(client.message("a@b.example", ["two@c.example"], CONTENT).code, 250)
        client.quit()
    relay.port = new_port
    relay.send("a@b.example", ["three@c.example"], CONTENT)
    reload(relay, {"listeners": [{"address": relay.address, "port": port} for port in (new_port, old_port)]})
    for port in (old_port, new_port):
        equal(all(can_connect(relay.address, port) for _ in range(20)), True, "both, on all shards")
    relay.wait_outcomes(3)
    equal(sorted(mx.recipients), ["one@c.example", "three@c.example", "two@c.example"])


@test
def listeners_that_went_may_come_back_at_once(t):
    """Again and again, under load: when a reload has ended, what it took away is closed, and the next one does not find it in use."""
    mx_address = free_address()
    mx = FakeMx(t, mx_address, free_port(mx_address))
    relay = Ringpost(t, {"shards": 4, "routes": [route("*", (mx_address, mx.port))]})
    keep = {"address": relay.address, "port": relay.port}
    come_and_go = [{"address": free_address(), "port": relay.port} for _ in range(40)]
    over = threading.Event()

    def source():
        with relay.client() as client:
            client.hello()
            while not over.is_set():
                equal(client.message("a@b.example", ["r@c.example"], CONTENT).code, 250)
            client.quit()

    threads = [threading.Thread(target=source) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for round_ in range(50):
            write(relay, {"listeners": [keep] if round_ % 2 else [keep, *come_and_go]})
            equal((round_, *post_reload(relay)), (round_, 200, '{"reloaded":true}\n'))
            equal((round_, any(is_taken(one) for one in come_and_go)), (round_, round_ % 2 == 0), "the addresses are in use")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    until(lambda: relay.metrics()["ringpost_queued_messages"] == 0, "an empty queue")


@test
def no_message_is_lost_or_doubled_while_it_is_reloaded_again_and_again(t):
    gauge = Gauge()
    addresses = [free_address() for _ in range(3)]
    port = free_port(addresses[0])
    servers = [FakeMx(t, address, port, gauge=gauge, script={"RCPT": lambda *_: Slow(0.002)}) for address in addresses]
    relay = Ringpost(t, {"routes": [route("*", (addresses[0], port))], "delivery": {"connections_per_site": 4}})
    sent, count = [], 150

    def source(number):
        with relay.client() as client:
            client.hello()
            for i in range(count):
                recipient = "r%d-%d@c%d.example" % (number, i, i % 5)
                equal(client.message("a@b.example", [recipient], CONTENT).code, 250)
                sent.append(recipient)
            client.quit()

    threads = [threading.Thread(target=source, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    rounds = 0
    while any(thread.is_alive() for thread in threads) or rounds < 6:
        rounds += 1
        reload(
            relay,
            {
                "routes": [route("*", (addresses[rounds % 3], port))],
                "delivery": {"connections_per_site": 2 + rounds % 5, "messages_per_connection": 5 + rounds % 50},
                "limits": {"memory": "%dMiB" % (64 + rounds % 3 * 32)},
            },
        )
    for thread in threads:
        thread.join()
    equal(len(sent), 4 * count)
    relay.wait_outcomes(4 * count)
    got = [recipient for mx in servers for recipient in mx.recipients]
    equal(sorted(got), sorted(sent))


@test
def a_lower_limit_of_connections_holds_soon(t):
    address = free_address()
    mx = FakeMx(t, address, free_port(address), script={"RCPT": lambda *_: Slow(0.01)})
    relay = Ringpost(t, {"routes": [route("*", (address, mx.port))], "delivery": {"connections_per_site": 8, "chunking": False}})
    over = threading.Event()

    def source():
        with relay.client() as client:
            client.hello()
            while not over.is_set():
                equal(client.message("a@b.example", ["r@c.example"], CONTENT).code, 250)
            client.quit()

    threads = [threading.Thread(target=source) for _ in range(12)]
    for thread in threads:
        thread.start()
    until(lambda: mx.open_sessions >= 6, "many connections")
    reload(relay, {"delivery": {"connections_per_site": 2}})
    until(lambda: mx.open_sessions <= 2, "no more than two connections")
    mx.gauge.most = 0
    done = len(mx.recipients)
    until(lambda: len(mx.recipients) > done + 100, "more mail over them")
    equal(mx.gauge.most <= 2, True, "%d connections at once" % mx.gauge.most)
    reload(relay, {"delivery": {"connections_per_site": 8}})
    until(lambda: mx.open_sessions >= 6, "many connections again")
    over.set()
    for thread in threads:
        thread.join()
    until(lambda: relay.metrics()["ringpost_queued_messages"] == 0, "an empty queue")


@test
def a_pipe_that_nobody_writes_to_holds_nobody_up(t):
    """In place of the configuration: the reload is refused, and the relay still ends."""
    relay = Ringpost(t, {"routes": [route("*", (free_address(), 25))]})
    os.rename(relay.config_path, relay.config_path + ".away")
    os.mkfifo(relay.config_path)
    before = said(relay, REFUSED)
    relay.process.signal(signal.SIGHUP)
    until(lambda: said(relay, REFUSED) > before, "the refusal", timeout_s=20)
    os.remove(relay.config_path)
    os.rename(relay.config_path + ".away", relay.config_path)
    relay.stop()


@test
def what_is_wrong_or_needs_a_restart_changes_nothing(t):
    address = free_address()
    mx = FakeMx(t, address, free_port(address))
    relay = Ringpost(t, {"routes": [route("*", (address, mx.port))]})
    port = relay.port
    good = dict(relay.config)
    in_use_elsewhere = FakeMx(t, relay.address, free_port(relay.address))
    for changes, part in (
        ({"hostname": "other.example"}, "hostname has changed"),
        ({"shards": 3}, "shards has changed"),
        ({"spool": {"durability": "lazy"}}, "spool.durability has changed"),
        ({"events": {"files": 7}}, "events.files has changed"),
        ({"queue": {"retry_factor": 0.1}}, "queue.retry_factor"),
        ({"no_such_key": 1}, "no_such_key"),
        ({"listeners": [{"address": "192.0.2.7", "port": 2525}]}, "no address of this host"),
        ({"listeners": [{"address": relay.address, "port": port}, {"address": relay.address, "port": in_use_elsewhere.port}]}, "in use"),
    ):
        relay.config = good
        reload(relay, merge(changes, {"limits": {"recipients": 1}}), REFUSED)
        equal(part in relay.log().splitlines()[-1], True, "%s; said: %s" % (part, relay.log().splitlines()[-1]))
        code, output = ctl_reload(relay)
        equal((code, part in output), (1, True), output)
        relay.port = port
        relay.send("a@b.example", ["r1@c.example", "r2@c.example"], CONTENT)
    equal(said(relay, IN_USE), 0)
    relay.config = good
    write(relay, {"limits": {"recipients": 1}})
    code, output = ctl_reload(relay)
    equal((code, output.strip()), (0, "reloaded"))
    with relay.client() as client:
        client.hello()
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("RCPT TO:<r1@c.example>", 250)
        client.ask("RCPT TO:<r2@c.example>", 452)
    relay.wait_outcomes(16)


@test
def the_limit_of_a_domain_holds_over_reloads(t):
    address = free_address()
    mx = FakeMx(t, address, free_port(address), script={"RCPT": lambda *_: Slow(0.02)})
    relay = Ringpost(
        t, {"routes": [route("*", (address, mx.port))], "sites": [{"match": ["lim.example"], "connections_per_site": 1}], "delivery": {"chunking": False}}
    )
    for i in range(60):
        relay.send("a@b.example", ["r%d@lim.example" % i], CONTENT)
    for _ in range(5):
        reload(relay, {})
    reload(relay, {"delivery": {"connections_per_site": 7}})
    relay.wait_outcomes(60)
    equal(mx.gauge.most, 1, "connections at once")


@test
def a_signal_is_one_try(t):
    relay = Ringpost(t, {"routes": [route("*", (free_address(), 9))]})
    other = FakeMx(t, relay.address, free_port(relay.address))
    port = other.port
    reload(relay, {"listeners": [{"address": relay.address, "port": relay.port}, {"address": relay.address, "port": port}]}, REFUSED)
    other.close()
    time.sleep(2)  # in which nothing may happen
    equal((said(relay, REFUSED), said(relay, IN_USE)), (1, 0))


@test
def a_stop_in_the_middle_of_reloads(t):
    for round_ in range(6):
        relay = Ringpost(t, {"shards": 4, "routes": [route("*", (free_address(), 9))], "sites": [{"match": ["x.example"], "max_age": "1d"}]})
        over = threading.Event()

        def storm(relay=relay, over=over):
            while not over.is_set() and ctl_reload(relay)[0] == 0:
                write(relay, {"limits": {"recipients": 100}})

        threads = [threading.Thread(target=storm) for _ in range(2)]
        for thread in threads:
            thread.start()
        with relay.client() as client:  # it is in a transaction when the stop comes
            client.hello()
            client.ask("MAIL FROM:<a@b.example>", 250)
            until(lambda relay=relay: said(relay, IN_USE) > 3 + round_, "some reloads")
            relay.process.signal(signal.SIGTERM)
            client.ask("RCPT TO:<r@c.example>", (250, 421))
        over.set()
        for thread in threads:
            thread.join()
        relay.stop()


@test
def the_file_may_be_gone(t):
    relay = Ringpost(t, {"routes": [route("*", (free_address(), 9))]})
    os.remove(relay.config_path)
    relay.process.signal(signal.SIGHUP)
    until(lambda: said(relay, REFUSED) == 1, "a word about it")
    equal(relay.health()[0], 200)


@test
def less_memory_than_is_in_use_cuts_nobody_off(t):
    """New mail is refused until there is room; who is in the middle of a message, or comes new, gets answers."""
    relay, _ = relay_and_mx(t, {"limits": {"memory": "64MiB"}})
    line = b"x" * 78 + b"\r\n"
    busy = []
    for _ in range(24):
        client = relay.client()
        client.hello()
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("RCPT TO:<c@d.example>", 250)
        client.ask("DATA", 354)
        client.send(line * (900000 // len(line)))
        busy.append(client)
    until(lambda: relay.metrics()["ringpost_body_bytes"] > 15 << 20, "the contents")
    reload(relay, {"limits": {"memory": "8MiB"}})
    codes = set()
    for _ in range(8):
        with relay.client() as client:
            client.hello()
            client.say("MAIL FROM:<a@b.example>")
            codes.add(client.reply().code)
    equal(codes, {452})
    for client in busy:
        client.send(b".\r\n")
        reply = client.expect((250, 452))
        client.quit()

    def taken():
        with relay.client() as client:
            client.hello()
            return client.message("a@b.example", ["c@d.example"], CONTENT).code == 250

    until(taken, "room for new mail")
    equal(relay.metrics()["ringpost_queued_messages"] <= 25, True, reply)


run_all()
