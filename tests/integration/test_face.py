"""The stable face: command line, configuration errors, exit codes, the ready line, /health, /metrics, event files."""
import json
import os
import re
import signal
import socket

from fakemx import FakeMx
from harness import Process, equal, free_address, free_port, run_all, run_program, test, until
from relay import Ringpost, binary, relay_and_mx, route, yaml

CONTENT = b"Subject: probe\r\n\r\nhello\r\n"
GOOD = """hostname: relay.ringpost.example
spool: {path: %(dir)s/spool}
listeners:
  - {address: "127.0.0.1", port: 2525}
delivery:
  port: 25
  idle: 60s
"""


def refused(t, text, *parts):
    """This configuration must end in exit code 2 and one line with file and these parts, with and without --check."""
    path = t.write("ringpost.yaml", text % {"dir": t.dir})
    for options in (["--check"], []):
        code, output = run_program([binary(), "--config", path] + options)
        equal(code, 2, output)
        for part in ("ringpost.yaml",) + parts:
            if part not in output:
                raise AssertionError("%r is not in %r" % (part, output))
        equal(len(output.strip().splitlines()), 1, output)
    equal(os.path.exists(t.path("spool")), False, "nothing is made before the configuration is good")


@test
def a_good_configuration_passes_the_check(t):
    path = t.write("ringpost.yaml", GOOD % {"dir": t.dir})
    code, output = run_program([binary(), "--config", path, "--check"])
    equal(code, 0, output)
    equal(os.path.exists(t.path("spool")), False)


@test
def every_documented_key_is_known(t):
    text = """hostname: relay.example.net
shards: 1
spool: {path: %(dir)s/spool, durability: sync}
listeners:
  - {address: "127.0.0.1", port: 2525}
relay_from: ["127.0.0.0/8", "::1"]
dns: {servers: ["127.0.0.1:53"]}
queue: {retry_initial: 5m, retry_factor: 2, retry_max: 4h, max_age: 5d}
delivery:
  port: 25
  connections_per_site: 10
  messages_per_connection: 100
  idle: 60s
  timeouts: {connect: 30s, greeting: 5m, command: 5m, data: 3m, final: 10m}
routes:
  - {domain: example.org, hosts: ["192.0.2.1:2526"]}
limits: {sessions: 32768, message_size: 50MiB, recipients: 1000}
events: {path: /var/log/ringpost}
http: {address: 127.0.0.1, port: 8025}
""" % {
        "dir": t.dir
    }
    code, output = run_program([binary(), "--config", t.write("ringpost.yaml", text), "--check"])
    equal(code, 0, output)


@test
def unknown_keys_are_errors_with_their_line(t):
    refused(t, GOOD + "colour: blue\n", ":8:", "colour")
    refused(t, GOOD + "  idel: 5s\n", ":8:", "idel")


@test
def wrong_values_are_errors_with_their_line(t):
    refused(t, GOOD.replace("idle: 60s", "idle: 5 parsecs"), ":7:", "delivery.idle", "5 parsecs")
    refused(t, GOOD.replace("port: 25\n", "port: 65537\n"), ":6:", "delivery.port")
    refused(t, GOOD.replace("2525", "no"), ":4:", "port")
    refused(t, GOOD.replace('"127.0.0.1"', '"127.0.0.777"'), ":4:", "address")
    refused(t, GOOD.replace("spool}", "spool, durability: eventually}"), ":2:", "durability", "eventually")
    refused(t, GOOD + "limits: {message_size: 5 apples}\n", ":8:", "message_size")
    refused(t, GOOD + 'relay_from: ["127.0.0.1/99"]\n', ":8:", "relay_from")
    refused(t, GOOD + 'routes:\n  - {domain: example.org, hosts: ["mx.example.org"]}\n', ":9:", "hosts")


@test
def what_is_no_yaml_is_an_error_with_its_line(t):
    refused(t, GOOD + "limits: {sessions: 5\n", ":")
    refused(t, GOOD + "\tlimits: 5\n", ":8:")


@test
def listeners_must_be_given(t):
    refused(t, "hostname: relay.ringpost.example\nspool: {path: %(dir)s/spool}\n", "listeners")


@test
def a_file_that_is_not_there_is_an_error(t):
    code, output = run_program([binary(), "--config", t.path("nowhere.yaml")])
    equal((code, "nowhere.yaml" in output), (2, True), output)
    code, output = run_program([binary(), "--config", t.dir])
    equal((code, output), (2, "ringpost: %s: the file cannot be read: is a directory\n" % t.dir))


@test
def bad_usage_is_exit_2(t):
    del t
    for arguments in ([], ["--frob"], ["--config"], ["--config", "a", "b"]):
        code, output = run_program([binary()] + arguments)
        equal((code, output != ""), (2, True), "%s: %s" % (arguments, output))


@test
def help_and_version_are_exit_0(t):
    del t
    equal(run_program([binary(), "--help"])[0], 0)
    code, output = run_program([binary(), "--version"])
    equal((code, re.fullmatch(r"ringpost \d+\.\d+(\.\d+)?\n", output) is not None), (0, True), output)


def fails_to_start(t, config, *parts):
    relay = Ringpost(t, config, start=False)
    process = Process(t, t.unique("failing"), [relay.binary, "--config", relay.config_path])
    code = process.wait()
    equal(code, 1, process.log())
    for part in parts:
        if part not in process.log():
            raise AssertionError("%r is not in %r" % (part, process.log()))
    equal(re.search(r"^ready\b", process.log(), re.M), None)
    return process.log()


@test
def a_port_in_use_is_exit_1_with_a_clear_line(t):
    address = free_address()
    port = free_port(address)
    with socket.socket() as other:
        other.bind((address, port))
        other.listen()
        fails_to_start(t, {"listeners": [{"address": address, "port": port}]}, "%s:%d" % (address, port), "in use")


@test
def a_listener_of_another_ringpost_is_exit_1_with_a_clear_line(t):
    """Both would share the port, and the kernel would deal sessions out to both."""
    relay, _ = relay_and_mx(t)
    fails_to_start(t, {"listeners": relay.config["listeners"]}, "listeners[0]", "%s:%d" % (relay.address, relay.port), "in use by another process")
    fails_to_start(t, {"listeners": [{"address": free_address(), "port": 2525}] + relay.config["listeners"]}, "listeners[1]", "in use")
    relay.send("a@b.example", "c@d.example", CONTENT)
    relay.wait_outcomes(1)
    relay.stop()
    relay.start()  # what is left of closed connections is in nobody's way
    relay.send("a@b.example", "c@d.example", CONTENT)
    relay.wait_outcomes(2)


@test
def all_shards_have_a_part_of_the_sessions(t):
    """The shard is in the number of a session (bits 14 to 21)."""
    relay, _ = relay_and_mx(t, {"shards": 3})
    for i in range(90):
        relay.send("a@b.example", "r%d@d.example" % i, CONTENT)
    relay.wait_outcomes(90)
    shards = [int(event["session_id"], 16) >> 14 & 255 for event in relay.events("Reception")]
    equal([shards.count(shard) > 10 for shard in range(3)], [True] * 3, "sessions of each: %s" % [shards.count(shard) for shard in range(3)])


@test
def of_two_that_start_at_once_one_is_ready(t):
    address = free_address()
    listeners = [{"address": address, "port": free_port(address)}]
    for i in range(5):
        relays = [Ringpost(t, {"listeners": listeners}, start=False, check=False) for _ in range(2)]
        processes = [Process(t, "race-%d-%d" % (i, j), [relay.binary, "--config", relay.config_path]) for j, relay in enumerate(relays)]
        until(lambda pair=processes: not all(one.running() for one in pair), "one of them to give up")
        loser, winner = sorted(processes, key=lambda one: one.running())
        equal((loser.wait(), "listeners[0]" in loser.log()), (1, True), loser.log())
        winner.wait_line(r"^ready\b")
        winner.signal(signal.SIGTERM)
        equal(winner.wait(), 0, winner.log())


@test
def a_listener_on_an_address_beside_all_of_them(t):
    """Of its own port: "0.0.0.0" has it too."""
    address = free_address()
    port = free_port(address)
    for first, second in (("0.0.0.0", address), (address, "0.0.0.0")):
        relay = Ringpost(t, {"listeners": [{"address": first, "port": port}, {"address": second, "port": port}]})
        with socket.create_connection((address, port), timeout=10) as connection:
            equal(connection.recv(4), b"220 ")
        relay.stop()


@test
def a_listener_on_a_foreign_address_is_exit_1_with_a_clear_line(t):
    fails_to_start(t, {"listeners": [{"address": "192.0.2.9", "port": 2525}]}, "listeners[0]", "192.0.2.9:2525", "no address of this host")


@test
def an_http_port_in_use_is_exit_1_with_a_clear_line(t):
    address = free_address()
    port = free_port(address)
    with socket.socket() as other:
        other.bind((address, port))
        other.listen()
        log = fails_to_start(t, {"http": {"address": address, "port": port}}, "http.address", "%s:%d: Address already in use" % (address, port))
        equal("port 0" in log, False, log)


@test
def a_spool_in_use_is_exit_1_with_a_clear_line(t):
    relay, _ = relay_and_mx(t)
    fails_to_start(t, {"spool": {"path": relay.config["spool"]["path"]}, "events": {"path": t.path("other")}}, relay.config["spool"]["path"])


@test
def a_spool_that_cannot_be_made_is_exit_1(t):
    t.write("plain", "a file, no directory")
    for path in (t.path("plain"), t.path("plain", "spool")):
        log = fails_to_start(t, {"spool": {"path": path}}, "spool.path " + path, "not a directory")
        equal(len(log.splitlines()), 1, log)


@test
def events_that_have_no_directory_are_exit_1(t):
    t.write("plain", "a file, no directory")
    fails_to_start(t, {"events": {"path": t.path("plain")}}, "events.path " + t.path("plain"), "not a directory")


@test
def a_foreign_source_address_is_named_at_start(t):
    relay, _ = relay_and_mx(t, {"delivery": {"source": ["192.0.2.9"]}})
    equal("delivery.source: 192.0.2.9 is no address of this host" in relay.log(), True, relay.log())
    own, _ = relay_and_mx(t, {"delivery": {"source": [free_address()]}})
    equal("delivery.source" in own.log(), False, own.log())


@test
def ready_means_that_it_accepts(t):
    """On every listener, at once."""
    addresses = [free_address() for _ in range(3)]
    relay = Ringpost(t, {"listeners": [{"address": address, "port": 2525} for address in addresses]})
    for address in addresses:
        with socket.create_connection((address, 2525), timeout=10) as connection:
            equal(connection.recv(4), b"220 ")
    equal(len(re.findall(r"^ready\b", relay.log(), re.M)), 1)


@test
def sigint_is_a_clean_stop_too(t):
    relay, _ = relay_and_mx(t)
    process = relay.process
    process.signal(signal.SIGINT)
    equal(process.wait(), 0, process.log())


@test
def health_says_ok(t):
    relay, _ = relay_and_mx(t)
    status, text = relay.health()
    equal((status, text.strip()), (200, "ok"))
    equal(relay.http("/nowhere")[0], 404)


@test
def metrics_count_what_happened(t):
    relay, mx = relay_and_mx(t, {"shards": 2}, script={"RCPT": lambda _, to: "550 5.1.1 no" if to.startswith("bad") else None})
    before = relay.metrics()
    equal(before["ringpost_messages_received_total"], 0)
    for i in range(10):
        relay.send("a@b.example", ["good%d@d.example" % i, "bad%d@d.example" % i], CONTENT)
    relay.wait_outcomes(20)
    metrics = relay.metrics()
    wanted = {
        "messages_received_total": 10,
        "recipients_received_total": 20,
        "delivered_total": 10,
        "bounced_total": 10,
        "deferred_total": 0,
        "expired_total": 0,
        "transactions_total": 10,
        "sessions_total": 10,
        "maybe_duplicate_total": 0,
        "events_lost_total": 0,
        "events_total": 30,
    }
    equal({name: metrics["ringpost_" + name] for name in wanted}, {name: float(value) for name, value in wanted.items()})
    equal(metrics["ringpost_bytes_received_total"] >= 10 * len(CONTENT), True)
    equal(metrics["ringpost_bytes_sent_total"] >= 10 * len(CONTENT), True)
    equal(metrics["ringpost_spool_commits_total"] >= 1, True)
    equal(all(metrics[name] >= value for name, value in before.items() if name.endswith("_total")), True, "totals never fall")
    equal(len(mx.messages), 10)


@test
def refused_messages_are_counted_and_told(t):
    """For what is in them, for their size, with DATA and with BDAT; not what the client takes back, and what it does not finish."""
    relay, _ = relay_and_mx(t, {"limits": {"message_size": "100KiB"}, "shards": 1})
    hops = b"Received: from a by b; Thu, 26 Nov 2026 12:00:00 +0000\r\n" * 101
    wanted = []
    with relay.client() as client:
        client.hello("teller.example")
        for content, code, enhanced in (
            (b"Subject: x\r\n\r\nbare\nline feed\r\n", 550, "5.6.11"),
            (b"Subject: x\r\n\r\nnul \0\r\n", 550, "5.6.0"),
            (hops + b"\r\nx\r\n", 554, "5.4.6"),
            (b"Subject: x\r\n\r\n" + b"y" * 150000 + b"\r\n", 552, "5.3.4"),
        ):
            recipients = ["r%d@d.example" % i for i in range(20)]
            reply = client.message("a@b.example", recipients, content)
            equal((reply.code, reply.enhanced), (code, enhanced))
            wanted.append((code, "DATA", recipients))
        for chunk, code in ((b"BDAT 9 LAST\r\nx\nyyyyyy\r", 550), (b"BDAT 110000 LAST\r\n" + b"z" * 110000, 552)):
            client.ask("MAIL FROM:<a@b.example>", 250)
            client.ask("RCPT TO:<C@D.example>", 250)
            client.send(chunk)
            client.expect(code)
            wanted.append((code, "BDAT", "C@D.example"))
        client.ask("MAIL FROM:<a@b.example> SIZE=102401", 552)
        wanted.append((552, "MAIL", None))
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("RCPT TO:<c@d.example>", 250)
        client.ask("RSET", 250)
        client.ask("MAIL FROM:<a@b.example> FROB=1", 555)
        client.ask("MAIL FROM:<a@b.example>", 250)
        client.ask("RCPT TO:<c@d.example>", 250)
        client.ask("DATA", 354)
        client.send(b"half, bare\nline feed\r\n")
    until(lambda: relay.metrics()["ringpost_sessions_open"] == 0, "the session to end")
    until(lambda: len(relay.events("Rejection")) >= len(wanted), lambda: "Rejections: %s" % relay.events("Rejection"))
    told = relay.events("Rejection")
    equal([(event["response"]["code"], event["response"]["command"], event.get("recipient")) for event in told], wanted)
    equal(
        {(event["sender"], event["peer_address"]["name"], "id" in event, event.get("queue", "d.example")) for event in told},
        {("a@b.example", "teller.example", False, "d.example")},
    )
    equal(told[0]["response"]["content"], "Bare CR or LF in the message: lines must end with CRLF")
    equal(told[-1]["size"], 102401)
    equal(relay.metrics()["ringpost_messages_rejected_total"], len(wanted))


@test
def event_lines_are_json_whatever_the_peer_says(t):
    """Control bytes, quotes, broken UTF-8: in replies and in addresses."""
    relay, _ = relay_and_mx(t, script={"RCPT": lambda _, to: '550 5.1.1 "\\ \x01\x1b[31m \udcff\udcfe caf\u00e9 \x7f'}, lawful=False)
    relay.send("a@b.example", '"we\\"ird"@d.example', CONTENT)
    bounce = relay.wait_event("Bounce")
    equal(bounce["recipient"], '"we\\"ird"@d.example')
    equal("caf\u00e9" in bounce["response"]["content"], True, bounce["response"]["content"])
    for file in os.listdir(relay.events_path):
        with open(os.path.join(relay.events_path, file), "rb") as lines:
            for line in lines:
                json.loads(line.decode("utf-8", "strict"))
                equal(re.search(rb"[\x00-\x09\x0b-\x1f]", line), None)


@test
def log_lines_cannot_be_forged(t):
    relay, _ = relay_and_mx(t)
    with relay.client() as client:
        client.hello("evil.example")
        client.say(b"MAIL FROM:<x\x1b[2J\x07@b.example>")
        client.expect(501)
        client.quit()
    relay.process.signal(signal.SIGTERM)
    relay.process.wait()
    equal(re.search(r"[\x00-\x08\x0b-\x1f\x7f]", relay.log()), None)


@test
def recipients_have_one_end_each_of_every_kind(t):
    """Delivery, Bounce and Expiration in one message, over four domains."""
    address = free_address()
    port = free_port(address)
    mx = FakeMx(t, address, port, script={"RCPT": lambda _, to: {"no": "550 5.1.1 no", "later": "450 4.2.0 later"}.get(to.split("@")[0])})
    relay = Ringpost(t, {"routes": [route("*", (address, port)), route("dead.example", (address, free_port(address)))], "queue": {"max_age": "2s"}})
    relay.send("a@b.example", ["yes@one.example", "no@one.example", "later@two.example", "yes@dead.example", "yes@three.example"], CONTENT)
    relay.wait_outcomes(5)
    equal(
        {end["recipient"]: end["type"] for end in relay.finals()},
        {
            "yes@one.example": "Delivery",
            "no@one.example": "Bounce",
            "later@two.example": "Expiration",
            "yes@dead.example": "Expiration",
            "yes@three.example": "Delivery",
        },
    )
    equal(sorted(mx.recipients), ["yes@one.example", "yes@three.example"])
    until(lambda: relay.metrics()["ringpost_queued_messages"] == 0, "the message to be forgotten")


@test
def what_does_not_fit_in_memory_is_taken_up_when_there_is_room(t):
    """With a sixteenth of the memory, after a stop and after a kill: it is named, and comes when the sites are back; none is lost or twice."""
    address, messages = free_address(), 5000
    dead, alive = free_port(address), free_address()
    live = FakeMx(t, alive, free_port(alive))
    routes = [route("live.example", (alive, live.port)), route("*", (address, dead))]
    relay = Ringpost(
        t, {"shards": 1, "limits": {"memory": "64MiB"}, "queue": {"retry_initial": "2s", "retry_max": "2s"}, "routes": routes}
    )
    with relay.client() as client:
        client.hello()
        for i in range(messages):
            client.ask("MAIL FROM:<%s@b.example> ENVID=%s" % ("s" * 60, "e" * 90), 250)
            client.ask("RCPT TO:<r%d@d.example> ORCPT=rfc822;%s@b.example" % (i, "o" * 200), 250)
            if i % 10 == 0:
                client.ask("RCPT TO:<r%d@live.example>" % i, 250)
            client.ask("DATA", 354)
            client.send(CONTENT + b".\r\n")
            client.expect(250)
        client.quit()
    relay.wait_outcomes(messages // 10)
    relay.stop()
    relay.config["limits"]["memory"] = "4MiB"
    relay.config_path = t.write("less.yaml", yaml(relay.config) + "\n")
    for end in (relay.kill9, relay.stop):
        relay.start()
        metrics = relay.metrics()
        waiting = int(metrics["ringpost_queue_messages_unloaded"])
        equal(0 < waiting < messages, True, "%d of %d did not fit" % (waiting, messages))
        equal(int(metrics["ringpost_queued_messages"]) + waiting, messages)
        equal("waiting on disk: %d messages do not fit in limits.memory; they are taken up as memory gets free" % waiting in relay.log(), True, relay.log())
        end()
    relay.start()
    mx = FakeMx(t, address, dead)
    relay.wait_outcomes(messages + messages // 10, timeout_s=120)
    until(lambda: relay.metrics()["ringpost_queued_messages"] == 0, "the queue to be empty")
    equal(relay.metrics()["ringpost_queue_messages_unloaded"], 0)
    for got, step, domain in ((mx, 1, "d"), (live, 10, "live")):
        equal(sorted(got.recipients), sorted("r%d@%s.example" % (i, domain) for i in range(0, messages, step)))


@test
def a_stop_ends_though_the_spool_is_full(t):
    """What was only in memory and finds no room on disk is lost with the process, which says so: it must not wait for ever."""
    address = free_address()
    with socket.socket() as silent:  # connections are made, and nothing is ever said
        silent.bind((address, 0))
        silent.listen(64)
        relay = Ringpost(
            t,
            {
                "shards": 1,
                "spool": {"durability": "memory", "segment_size": "8MiB", "max_size": "24MiB"},
                "routes": [route("*", (address, silent.getsockname()[1]))],
                "delivery": {"timeouts": {"greeting": "5m"}},
            },
            check=False,
        )
        content = b"Subject: big\r\n\r\n" + (b"b" * 98 + b"\r\n") * 8000
        for i in range(60):
            relay.send("a@b.example", "r%d@d.example" % i, content)
        process, relay.process = relay.process, None
        process.signal(signal.SIGTERM)
        equal(process.wait(60), 1, process.log()[-2000:])
        lines = [line for line in process.log().splitlines() if "lost" in line]
        equal(len(lines), 1, process.log()[-2000:])
        lost = int(re.search(r"(\d+) messages were only in memory and are lost", lines[0]).group(1))
        equal(20 <= lost < 60, True, lines[0])
    relay.start()
    equal(relay.metrics()["ringpost_queued_messages"], 60 - lost)


run_all()
