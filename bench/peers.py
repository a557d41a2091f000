"""Postfix and OpenSMTPD as relays under test, next to Ringpost: same source, same sink, a queue on the same disk, tuned for throughput as their own
documents advise, never at the cost of what they promise with a 250.

Both get a route for each domain straight to its exchanger, so that they ask no DNS; Ringpost resolves MX and A. Both log each message, as they
always do; Ringpost, when it is compared with them, writes its events.
"""
import os
import re
import signal
import subprocess
import sys

import harness
from harness import Relay

sys.path.append(os.path.join(harness.ROOT, "tests", "lib"))
import mtasetup  # noqa: E402


class Peer(Relay):
    """What both have in common: its log in a file, processes of its own to be ended, routes to the sink's hosts."""

    def __init__(self, *arguments, domains=100, sessions=100, connections_per_site=10, build=os.path.join(harness.ROOT, "build"), **options):
        super().__init__(*arguments, **options)
        self.domains = domains
        self.sessions = sessions
        self.connections_per_site = connections_per_site
        self.build = build

    @classmethod
    def need(cls, options):
        """Raises mtasetup.Missing."""
        raise NotImplementedError

    @classmethod
    def available(cls, options):
        try:
            cls.need(options)
        except mtasetup.Missing as missing:
            return str(missing)
        return None

    def routes(self):
        """(domain, address and port of its exchanger)"""
        return [(harness.domain_name(i), (harness.exchanger(i), self.mx_port)) for i in range(self.domains)]

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def run(self, command):
        self.program = self.programs.start(command, cpus=self.cpus, cgroup=self.meter.cgroup, log=os.path.join(self.directory, "output"))
        self.meter.watch(self.program.process.pid)
        self.program.wait_port("127.0.0.1", self.port)

    def main_pid(self):
        """The process that ends the others when told to."""
        return self.program.process.pid

    def stop(self):
        """Its main process is asked; what is left of its own cgroup, or of its descendants, after that is killed."""
        if self.program is not None:
            pid = self.main_pid()
            if pid is not None and pid in self.meter.pids():
                os.kill(pid, signal.SIGTERM)
                self.program.wait(20)
            for left in self.meter.pids():
                try:
                    os.kill(left, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        return super().stop()


class Postfix(Peer):
    name = "postfix"
    durability = "fsync of each queue file"
    note = "routes from a texthash table, no DNS"
    share = 0.1

    # As TUNING_README and QSHAPE_README advise for volume. Process limits: enough for all sessions; more than this of smtp(8) only cost.
    DELIVERERS = 50

    @classmethod
    def need(cls, options):
        mtasetup.need_postfix()

    @classmethod
    def version(cls, options):
        text = subprocess.run(["/usr/sbin/postconf", "-d", "-h", "mail_version"], capture_output=True, text=True).stdout.strip()
        return "Postfix %s" % text

    def settings(self):
        routes = "".join("%s smtp:[%s]:%d\n" % (domain, address, port) for domain, (address, port) in self.routes())
        return {
            "myhostname": "relay.bench.test",
            "transport_maps": "texthash:" + self.write("transport", routes),
            # In: nothing looked up, nothing rewritten, no limits kept by anvil(8).
            "smtpd_recipient_restrictions": "",
            "smtpd_client_connection_count_limit": "0",
            "smtpd_client_connection_rate_limit": "0",
            "smtpd_client_message_rate_limit": "0",
            "smtpd_client_recipient_rate_limit": "0",
            "smtpd_client_auth_rate_limit": "0",
            "smtpd_client_new_tls_session_rate_limit": "0",
            "smtpd_client_event_limit_exceptions": "static:all",
            "smtpd_tls_security_level": "none",
            "receive_override_options": "no_header_body_checks, no_unknown_recipient_checks, no_address_mappings, no_milters",
            "in_flow_delay": "0",
            "always_add_missing_headers": "no",
            "strict_rfc821_envelopes": "no",
            # Processes: as many as there are sessions, used again and again.
            "default_process_limit": str(2 * self.sessions + 100),
            "max_use": "100000",
            "max_idle": "300s",
            # Out: a large active queue, connections cached and used again.
            "qmgr_message_active_limit": "40000",
            "qmgr_message_recipient_limit": "40000",
            "qmgr_clog_warn_time": "0",
            "default_destination_concurrency_limit": str(self.connections_per_site),
            "initial_destination_concurrency": str(self.connections_per_site),
            "smtp_connection_cache_on_demand": "yes",
            "smtp_connection_cache_time_limit": "2s",
            "smtp_connection_reuse_time_limit": "300s",
            "smtp_tls_security_level": "none",
            "smtp_address_preference": "ipv4",
            "notify_classes": "",
        }

    def start(self):
        self.home = mtasetup.PostfixHome(self.directory, "127.0.0.1", self.port, self.settings(), {"smtp": self.DELIVERERS})
        self.run(self.home.command)

    def main_pid(self):
        return self.home.master_pid()

    def log(self):
        lines = super().log()
        if os.path.exists(self.home.log_path):
            with open(self.home.log_path, errors="replace") as file:
                lines = lines + file.read().splitlines()[-20:]
        return lines


class OpenSmtpd(Peer):
    """Its queue and its control socket have fixed places, so it gets a mount name space in which those are the run's own: the queue is on the same
    disk as the others', and no other instance is met."""

    name = "opensmtpd"
    durability = "written, not synced"  # as strace shows: version 6.8.0 renames its files into place and calls no fsync
    note = "relay host per domain, no DNS"
    share = 0.05

    @classmethod
    def need(cls, options):
        mtasetup.need_opensmtpd(os.path.join(options.build, "peers"))
        mtasetup.need_program("/usr/bin/unshare")

    @classmethod
    def version(cls, options):
        done = subprocess.run([mtasetup.need_opensmtpd(os.path.join(options.build, "peers")), "-h"], capture_output=True, text=True)
        found = re.search(r"version: (\S+ \S+)", done.stdout + done.stderr)
        return found.group(1) if found else "OpenSMTPD"

    def configuration(self):
        # Its limits for what goes out stay as they are: 5 connections a route. Other values of `mta limit` made no difference that could be
        # measured here.
        lines = [
            "smtp limit max-mails 1000000",
            "smtp max-message-size 64M",
            "queue ttl 1h",
            "listen on 127.0.0.1 port %d hostname relay.bench.test" % self.port,
        ]
        for domain, (address, port) in self.routes():
            lines.append('action "%s" relay host "smtp://%s:%d"' % (domain, address, port))
        lines += ['match from any for domain "%s" action "%s"' % (domain, domain) for domain, _ in self.routes()]
        return "\n".join(lines) + "\n"

    def start(self):
        spool, sockets = (os.path.join(self.directory, part) for part in ("spool", "sockets"))
        mtasetup.opensmtpd_directories(os.path.join(spool, os.path.basename(mtasetup.OPENSMTPD_QUEUE)))
        os.makedirs(sockets)
        script = 'mount --bind "$1" "$2" && mount --bind "$3" /var/run && exec "$4" -d -f "$5"'
        self.run(
            [
                "/usr/bin/unshare",
                "--mount",
                "--propagation",
                "private",
                "/bin/sh",
                "-c",
                script,
                "opensmtpd",
                spool,
                os.path.dirname(mtasetup.OPENSMTPD_QUEUE),
                sockets,
                mtasetup.need_opensmtpd(os.path.join(self.build, "peers")),
                self.write("smtpd.conf", self.configuration()),
            ]
        )


ALL = (Postfix, OpenSmtpd)
