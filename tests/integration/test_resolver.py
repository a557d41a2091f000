#!/usr/bin/env python3
"""The resolver (through bench/resolve) against real name servers: NSD as the authority, unbound in front of it, both on free loopback ports."""
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("RINGPOST_BUILD", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "build"))
RESOLVE = os.path.join(BUILD, "bench", "resolve")
DEADLINE_S = 30
failed = False


def zone():
    lines = ["$ORIGIN test.", "$TTL 300", "@ SOA ns hostmaster 1 3600 600 86400 60", "@ NS ns", "ns A 127.0.0.1"]
    lines += ["three MX 10 mx1.three", "three MX 20 mx2.three", "three MX 30 mx3.three"]
    lines += ["mx%d.three A 192.0.2.%d" % (i, i) for i in (1, 2, 3)] + ["mx1.three AAAA 2001:db8::1", "mx3.three A 192.0.2.33"]
    lines += ["same MX 5 mx3.three", "same MX 5 mx1.three", "same MX 5 mx2.three"]
    lines += ["null MX 0 .", "alias CNAME three", "plain A 192.0.2.10", "plain AAAA 2001:db8::10", "web CNAME plain"]
    lines += ["nohost MX 10 missing", "text TXT \"no mail here\"", "loop1 CNAME loop2", "loop2 CNAME loop1"]
    lines += ["xn--bcher-kva MX 10 mx1.three", "self MX 10 relay.example.net.", "half MX 10 host.broken", "half MX 20 mx2.three"]
    for i in range(40):
        name = "exchanger-with-a-rather-long-name-%02d.big" % i
        lines += ["big MX %d %s" % (i, name), "%s A 198.51.100.%d" % (name, i), "%s AAAA 2001:db8:1::%x" % (name, i)]
    lines += ["wide MX 10 host.wide"] + ["host.wide A 203.0.113.%d" % i for i in range(1, 151)]
    return "\n".join(lines) + "\n"


NSD = """server:
  ip-address: 127.0.0.1@{port}
  username: ""
  zonesdir: "{dir}"
  database: ""
  pidfile: "{dir}/nsd.pid"
  xfrdfile: "{dir}/xfrd.state"
  zonelistfile: "{dir}/zone.list"
  logfile: "{dir}/nsd.log"
  server-count: 1
  minimal-responses: no
remote-control:
  control-enable: no
zone:
  name: test
  zonefile: test.zone
zone:
  name: broken.test
  zonefile: missing.zone
"""

UNBOUND = """server:
  interface: 127.0.0.1@{port}
  directory: "{dir}"
  chroot: ""
  username: ""
  pidfile: ""
  logfile: "{dir}/unbound.log"
  use-syslog: no
  do-daemonize: no
  do-not-query-localhost: no
  module-config: "iterator"
  num-threads: 1
  local-zone: "test." nodefault
stub-zone:
  name: test
  stub-addr: 127.0.0.1@{authority}
remote-control:
  control-enable: no
"""


def say(name, good, why=""):
    global failed
    failed = failed or not good
    print("ok %s" % name if good else "not ok %s: %s" % (name, why), flush=True)


def free_port():
    """A port free for both UDP and TCP."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            try:
                udp.bind(tcp.getsockname())
                return tcp.getsockname()[1]
            except OSError:
                continue


def answers(port):
    query = struct.pack(">6H", 7, 0x100, 1, 0, 0, 0) + b"\x02ns\x04test\0" + struct.pack(">2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(0.2)
        udp.connect(("127.0.0.1", port))
        try:
            udp.send(query)
            return udp.recv(4096)[3] & 15 == 0
        except OSError:
            return False


def start(folder, name, configuration, port):
    path = os.path.join(folder, name + ".conf")
    with open(path, "w") as file:
        file.write(configuration)
    with open(os.path.join(folder, name + ".err"), "w") as errors:
        process = subprocess.Popen([name, "-d", "-c", path], stdout=subprocess.DEVNULL, stderr=errors)
    until = time.monotonic() + DEADLINE_S
    while not answers(port):
        if process.poll() is not None or time.monotonic() > until:
            with open(os.path.join(folder, name + ".err")) as file:
                print("# %s did not start: %s" % (name, file.read()), flush=True)
            stop(process)
            return None
        try:
            process.wait(0.05)  # a closed port refuses at once: not a busy loop
        except subprocess.TimeoutExpired:
            pass
    return process


def stop(process):
    if process is not None and process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def resolve(ports, *arguments):
    command = [RESOLVE, "--hostname", "relay.example.net"]
    for port in ports:
        command += ["--server", "127.0.0.1:%d" % port]
    began = time.monotonic()
    output = subprocess.run(command + list(arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60).stdout
    return output, time.monotonic() - began


LONG = "exchanger-with-a-rather-long-name"
BIG = ",".join("%d:%s-%02d.big.test[2001:db8:1::%x 198.51.100.%d]" % (i, LONG, i, i, i) for i in range(16)).replace("::0 ", ":: ")
THREE = "hosts=10:mx1.three.test[2001:db8::1 192.0.2.1],20:mx2.three.test[192.0.2.2],30:mx3.three.test[192.0.2."
CASES = [  # domain, what its line has to match
    ("three.test", r"status=ok ttl=(60|300) site=mx1.three.test,mx2.three.test,mx3.three.test " + re.escape(THREE)),
    ("same.test", r"status=ok ttl=\d+ site=mx1.three.test,mx2.three.test,mx3.three.test hosts=5:mx.*,5:mx.*,5:mx"),
    ("alias.test", r"status=ok .*" + re.escape(THREE)),
    ("null.test", r"status=null "),
    ("plain.test", r"status=ok ttl=60 implicit site=plain.test hosts=0:plain.test\[2001:db8::10 192.0.2.10\]$"),
    ("web.test", r"status=ok ttl=60 implicit site=plain.test hosts=0:plain.test\["),
    ("missing.test", r"status=no-domain ttl=60 .*does not exist"),
    ("text.test", r"status=no-domain ttl=60 .*neither MX nor address"),
    ("nohost.test", r"status=no-address ttl=60 "),
    ("self.test", r"status=self "),
    ("b\u00fccher.test", r"status=ok .*hosts=10:mx1.three.test\["),
    ("B\u00dcCHER.Test", r"status=ok .*hosts=10:mx1.three.test\["),
    ("broken.test", r"status=temporary ttl=5 .*SERVFAIL"),
    ("half.test", r"status=ok ttl=\d+ site=host.broken.test,mx2.three.test hosts=10:host.broken.test,20:mx2.three.test\[192.0.2.2\]$"),
    ("loop1.test", r"status=temporary "),
    ("big.test", r"status=ok .*" + re.escape("hosts=" + BIG) + "$"),
    ("wide.test", r"status=ok .*hosts=10:host.wide.test\[(203.0.113.\d+ ?){8}\]$"),
    ("no..name", r"status=bad-name "),
]


def check_domains(where, port):
    output, _ = resolve([port], "--stats", *[domain for domain, _ in CASES])
    lines = output.splitlines()
    escaped = {domain: "".join(chr(b) if b < 128 else "\\x%02x" % b for b in domain.encode()) for domain, _ in CASES}
    for domain, pattern in CASES:
        mine = [line for line in lines if line.split(" ")[0].lower() == escaped[domain].lower()]
        say("%s: %s" % (where, domain), len(mine) == 1 and re.search(pattern, mine[0]), repr(mine or output))
    truncated = re.search(r"truncated=(\d+)", output)
    say("%s: long answers came over TCP" % where, truncated and int(truncated.group(1)) >= 2, output)


def check_rest(authority, recursive):
    output, _ = resolve([recursive], "--repeat", "5", "--stats", "three.test", "null.test")
    say("cache: five rounds cost the queries of one", re.search(r"queries_sent=8 .*cache_hits=8 cache_misses=2", output), output)
    dead = free_port()
    output, took = resolve([dead, recursive], "three.test")
    say("a closed port is passed over at once", "status=ok" in output and took < 1.5, "%.1f s %s" % (took, output))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        output, took = resolve([silent.getsockname()[1], recursive], "--timeout", "300", "three.test")
        say("a silent server gives way to the next", "status=ok" in output and 0.3 <= took < 3, "%.1f s %s" % (took, output))
        output, took = resolve([silent.getsockname()[1]], "--timeout", "100", "three.test")
        say("no reply at all is temporary", "status=temporary" in output and "no name server replied" in output and took < 3, output)
    output, _ = resolve([authority], "elsewhere.example")
    say("a server that refuses is no proof that a domain is missing", "status=temporary" in output and "REFUSED" in output, output)


def main():
    if shutil.which("nsd") is None or shutil.which("unbound") is None:
        print("skipped dns: nsd or unbound is not installed")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "test.zone"), "w") as file:
            file.write(zone())
        authority, recursive = free_port(), free_port()
        nsd = start(folder, "nsd", NSD.format(port=authority, dir=folder), authority)
        unbound = nsd and start(folder, "unbound", UNBOUND.format(port=recursive, authority=authority, dir=folder), recursive)
        try:
            say("name servers start", nsd is not None and unbound is not None, "see above")
            if not failed:
                check_domains("nsd", authority)
                check_domains("unbound", recursive)
                check_rest(authority, recursive)
        finally:
            stop(unbound)
            stop(nsd)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
