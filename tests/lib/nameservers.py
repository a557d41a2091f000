"""Name servers on loopback: NSD with the zones of the test, unbound as the resolver before it, and a few bytes of DNS to ask them.

    zone = {"example": ["one MX 10 mx.one", "mx.one A 127.3.2.1"]}
    dns = Resolver(t, zone)          # NSD behind unbound
    Ringpost(t, {"dns": {"servers": [dns.where]}, ...})

    dns = Delay(t, Nsd(t, zone), held=["slow.example"])     # what is below that is answered after dns.release()

    dns = SignedResolver(t, {"test": [...], "good.test": [...], "plain.test": [...]}, plain={"plain.test"})     # signed, but for "plain"; unbound validates
"""
import os
import random
import socket
import struct
import subprocess
import threading

from harness import Process, free_address, free_port, need_program, until

RCODE_NOERROR, RCODE_SERVFAIL, RCODE_NXDOMAIN = 0, 2, 3
TYPE_A, TYPE_SOA, TYPE_MX = 1, 6, 15
HEAD = "$ORIGIN %s.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n"


def ask(address, port, name, kind=TYPE_A, timeout_s=1.0):
    """Asks over UDP; returns (rcode, number of answers, truncated), or None without a reply."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.strip(".").split(".")) + b"\0"
    number = random.randrange(65536)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
        query.settimeout(timeout_s)
        try:
            query.connect((address, port))
            query.send(struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">HH", kind, 1))
            reply = query.recv(4096)
        except OSError:
            return None
    answered, flags, _, answers = struct.unpack(">HHHH", reply[:8])
    return (flags & 15, answers, bool(flags & 0x0200)) if answered == number else None


class Nsd:
    """`zones`: name -> list of record lines, with names relative to the zone; or the text of a whole zone; None: a zone that cannot be loaded (SERVFAIL)."""

    def __init__(self, case, zones, port=None, address=None):
        program = need_program("/usr/sbin/nsd")
        self.address = address or free_address()
        self.port = port or free_port(self.address)
        self.where = "%s:%d" % (self.address, self.port)
        directory = case.directory("nsd-%d" % self.port)
        config = [
            "server:",
            "  ip-address: %s@%d" % (self.address, self.port),
            '  username: ""',
            '  database: ""',
            "  zonesdir: " + directory,
            "  pidfile: %s/nsd.pid" % directory,
            "  xfrdfile: %s/xfrd.state" % directory,
            "  zonelistfile: %s/zone.list" % directory,
            "  xfrdir: " + directory,
            "  server-count: 1",
            "  rrl-ratelimit: 0",
            "  hide-version: yes",
            "remote-control:",
            "  control-enable: no",
        ]
        for zone, records in zones.items():
            file = "%s.zone" % zone
            config += ["zone:", "  name: " + zone, "  zonefile: " + file]
            if records is not None:
                text = records if isinstance(records, str) else HEAD % zone + "\n".join(records) + "\n"
                case.write(os.path.join(directory, file), text)
        path = case.write(os.path.join(directory, "nsd.conf"), "\n".join(config) + "\n")
        self.process = Process(case, "nsd-%d" % self.port, [program, "-d", "-c", path])
        probe = next(zone for zone, records in zones.items() if records is not None)
        until(lambda: self._answers(probe), lambda: "NSD to answer for %s:\n%s" % (probe, self.process.log()))

    def _answers(self, zone):
        if not self.process.running():
            raise AssertionError("NSD ended: %s" % self.process.log())
        reply = ask(self.address, self.port, zone, TYPE_SOA)
        return reply is not None and reply[0] == RCODE_NOERROR and reply[1] == 1

    def stop(self):
        self.process.end()


class Delay:
    """Stands before a name server, over UDP: notes what is asked, and keeps questions about names below those in `held` to itself until release()."""

    def __init__(self, case, upstream, held=()):
        self.address = free_address()
        self.port = free_port(self.address)
        self.where = "%s:%d" % (self.address, self.port)
        self._upstream = upstream
        self._lock = threading.Lock()
        self._held = tuple(held)
        self._kept = []
        self._asked = []
        self._stopped = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((self.address, self.port))
        self._socket.settimeout(0.2)
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()

        def end():
            self._stopped = True
            thread.join()
            self._socket.close()

        case.at_end(end)

    def asked(self, below=""):
        """Names of questions so far, in lower case; those that are asked again are there once."""
        with self._lock:
            return [name for name in dict.fromkeys(self._asked) if name.endswith(below)]

    def release(self):
        with self._lock:
            self._held, kept, self._kept = (), self._kept, []
        for packet, client in kept:
            self._pass_on(packet, client)

    def _run(self):
        while not self._stopped:
            try:
                packet, client = self._socket.recvfrom(4096)
            except TimeoutError:
                continue
            except OSError:  # a client that has gone: ICMP
                continue
            name = self._name(packet)
            with self._lock:
                self._asked.append(name)
                holds = name.endswith(self._held) if self._held else False
                if holds:
                    self._kept.append((packet, client))
            if not holds:
                self._pass_on(packet, client)

    @staticmethod
    def _name(packet):
        labels, at = [], 12
        while packet[at]:
            labels.append(packet[at + 1 : at + 1 + packet[at]].decode("ascii", "replace").lower())
            at += 1 + packet[at]
        return ".".join(labels)

    def _pass_on(self, packet, client):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
            query.settimeout(2)
            try:
                query.connect((self._upstream.address, self._upstream.port))
                query.send(packet)
                self._socket.sendto(query.recv(4096), client)
            except OSError:
                pass  # as a datagram is lost


class Unbound:
    """A caching resolver that asks one server (Nsd or a script) for everything. `anchor`: a file with the key by which it validates."""

    def __init__(self, case, upstream, probe_zone, anchor=None):
        program = need_program("/usr/sbin/unbound")
        self.address = free_address()
        self.port = free_port(self.address)
        self.where = "%s:%d" % (self.address, self.port)
        directory = case.directory("unbound-%d" % self.port)
        config = [
            "server:",
            "  interface: " + self.address,
            "  port: %d" % self.port,
            "  access-control: 127.0.0.0/8 allow",
            "  do-daemonize: no",
            '  chroot: ""',
            '  username: ""',
            "  directory: " + directory,
            '  pidfile: ""',
            "  use-syslog: no",
            '  logfile: ""',
            "  verbosity: 1",
            "  num-threads: 1",
            "  do-not-query-localhost: no",
            '  module-config: "%s"' % ("validator iterator" if anchor else "iterator"),
            '  local-zone: "test." nodefault',
            '  local-zone: "invalid." nodefault',
        ]
        if anchor:
            config.append('  trust-anchor-file: "%s"' % anchor)
        config += [
            "  infra-host-ttl: 1",
            "remote-control:",
            "  control-enable: no",
            "forward-zone:",
            '  name: "."',
            "  forward-addr: %s@%d" % (upstream.address, upstream.port),
        ]
        path = case.write(os.path.join(directory, "unbound.conf"), "\n".join(config) + "\n")
        self.process = Process(case, "unbound-%d" % self.port, [program, "-d", "-p", "-c", path])

        def answers():
            if not self.process.running():
                raise AssertionError("unbound ended: %s" % self.process.log())
            reply = ask(self.address, self.port, probe_zone, TYPE_SOA)
            return reply is not None and reply[0] == RCODE_NOERROR and reply[1] == 1

        until(answers, lambda: "unbound to answer:\n%s" % self.process.log())


class Resolver(Unbound):
    """NSD with these zones and unbound before it."""

    def __init__(self, case, zones):
        self.nsd = Nsd(case, zones)
        super().__init__(case, self.nsd, next(zone for zone, records in zones.items() if records is not None))


class SignedResolver(Unbound):
    """
    NSD with these zones, signed, and unbound before it, which validates from the key of the first one on: a parent of all the others. `plain` zones are not signed,
    and the parent proves that. `after`: a function from the text of a signed zone, and its name, to what is served: for what is broken. With NSEC3 records if `nsec3`.
    """

    def __init__(self, case, zones, plain=(), after=None, nsec3=False, expired=()):
        self._programs = need_program("/usr/bin/ldns-keygen"), need_program("/usr/bin/ldns-signzone")
        self._directory = case.directory("keys")
        self._case = case
        self._keys = {}
        parent = next(iter(zones))
        served, ds = {}, []
        for zone in [name for name in zones if name != parent] + [parent]:
            records = list(zones[zone])
            if zone == parent:
                children = [name for name in zones if name != parent]
                records += ["%s. NS ns" % name for name in children] + ds
            if zone in plain:
                served[zone] = records
                continue
            text, own_ds = self._sign(zone, records, nsec3, zone in expired)
            ds.append(own_ds)
            served[zone] = after(text, zone) if after else text
        self._served = served
        self.nsd = Nsd(case, served)
        super().__init__(case, self.nsd, parent, anchor=os.path.join(self._directory, "%s.anchor" % parent))

    def change(self, zone, records):
        """Other records in a signed zone that has none below it. What unbound has in its cache stays there."""
        self._served[zone] = self._sign(zone, records, False, False)[0]
        self.nsd.stop()
        self.nsd = Nsd(self._case, self._served, address=self.nsd.address, port=self.nsd.port)

    def _sign(self, zone, records, nsec3, expired):
        keygen, signzone = self._programs
        run = {"cwd": self._directory, "check": True, "stdout": subprocess.PIPE, "text": True, "timeout": 60}
        key = self._keys.get(zone) or subprocess.run([keygen, "-k", "-a", "ECDSAP256SHA256", "-r", "/dev/urandom", zone], **run).stdout.strip()
        self._case.write(os.path.join(self._directory, zone), HEAD % zone + "\n".join(records) + "\n")
        dates = ["-i", "20200101000000", "-e", "20200201000000"] if expired else []
        subprocess.run([signzone] + (["-n"] if nsec3 else []) + dates + ["-o", zone, zone, key], **run)
        if zone not in self._keys:
            with open(os.path.join(self._directory, key + ".key"), encoding="ascii") as anchor:
                self._case.write(os.path.join(self._directory, zone + ".anchor"), anchor.read())
        self._keys[zone] = key
        with open(os.path.join(self._directory, zone + ".signed"), encoding="ascii") as signed:
            with open(os.path.join(self._directory, key + ".ds"), encoding="ascii") as ds:
                return signed.read(), ds.read().strip()
