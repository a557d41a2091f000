"""Real mail servers as receiving MX (Postfix, Exim, OpenSMTPD, smtp-sink) and real clients (smtp-source, swaks, nodemailer).

Receivers share a face: start listening on address:port, take every recipient, `wait_messages(n)` returns the contents as they were stored, with
the headers that the receiver added cut off, and `connections()` says how many connections came in.
"""
import contextlib
import email
import json
import os
import re
import shutil
import signal
import subprocess
import threading

import mtasetup
from fakemx import FakeMx
from harness import BUILD, PATIENCE_S, Process, Skip, free_address, free_port, need_program, run_program, until

PEERS = os.path.join(BUILD, "peers")
RELAY_NAME = b"relay.ringpost.example"


def _needed(need, *arguments):
    """What mtasetup finds missing makes a test skipped."""
    try:
        return need(*arguments)
    except mtasetup.Missing as missing:
        raise Skip(str(missing)) from None


def need_root(what):
    _needed(mtasetup.need_root, what)


def user_of(name):
    return _needed(mtasetup.need_user, name)


def without_envelope_headers(stored):
    """Cuts off what the receiver put above: everything before the Received header of Ringpost, which is cut off too. `stored` has LF line ends,
    as all of them store it; CRLF comes back, as it was sent."""
    message = stored.replace(b"\r\n", b"\n")
    headers, _, _ = message.partition(b"\n\n")
    own = re.search(rb"(?m)^Received:[^\n]*(?:\n[ \t][^\n]*)*by " + RELAY_NAME + rb"[^\n]*\n(?:[ \t][^\n]*\n)*", headers + b"\n")
    if not own:
        raise AssertionError("no Received header of %s in %r" % (RELAY_NAME.decode(), stored[:1500]))
    return message[own.end() :].replace(b"\n", b"\r\n")


class _Receiver:
    maildir = None

    def stored(self):
        """The stored messages, as bytes, oldest first."""
        new = os.path.join(self.maildir, "new")
        names = os.listdir(new) if os.path.isdir(new) else []
        result = []
        for name in sorted(names, key=lambda file: os.stat(os.path.join(new, file)).st_mtime_ns):
            with open(os.path.join(new, name), "rb") as file:
                result.append(file.read())
        return result

    def count(self):
        new = os.path.join(self.maildir, "new")
        return len(os.listdir(new)) if os.path.isdir(new) else 0

    def messages(self):
        return [without_envelope_headers(stored) for stored in self.stored()]

    def wait_messages(self, count, timeout_s=None):
        until(
            lambda: self.count() >= count,
            lambda: "%d messages at %s, there are %d; log:\n%s" % (count, type(self).__name__, self.count(), self.log()[-3000:]),
            timeout_s,
            every_s=0.05,
        )
        return self.messages()

    def log(self):
        raise NotImplementedError

    def connections(self):
        raise NotImplementedError


class Postfix(_Receiver):
    """An own instance: configuration, queue and data under the test's directory; virtual(8) delivers everything into one maildir."""

    def __init__(self, case, address=None, port=None, settings=None, certified=None):
        _needed(mtasetup.need_postfix)
        owner = user_of("postfix")
        self.address = address or free_address()
        self.port = port or free_port(self.address)
        mail = case.directory("postfix", "mail")
        os.chown(mail, owner.pw_uid, owner.pw_gid)
        self.maildir = os.path.join(mail, "all")
        parameters = {
            "virtual_mailbox_domains": "static:all",
            "virtual_mailbox_maps": "static:all/",
            "virtual_mailbox_base": mail,
            "virtual_mailbox_limit": "0",
            "virtual_minimum_uid": "1",
            "virtual_uid_maps": "static:%d" % owner.pw_uid,
            "virtual_gid_maps": "static:%d" % owner.pw_gid,
            "virtual_transport": "virtual",
            "smtputf8_enable": "yes",
            "default_process_limit": "20",
        }
        if certified:  # {"cert": FILE, "key": FILE}
            parameters.update(
                {
                    "smtpd_tls_security_level": "may",
                    "smtpd_tls_cert_file": certified["cert"],
                    "smtpd_tls_key_file": certified["key"],
                    "smtpd_tls_loglevel": "1",
                    "smtpd_tls_received_header": "yes",
                }
            )
        parameters.update(settings or {})
        self._home = mtasetup.PostfixHome(case.directory("postfix"), self.address, self.port, parameters)
        self.config = self._home.config
        self.process = Process(case, "postfix", self._home.command)
        case.at_end(self._end)
        self.process.wait_port(self.address, self.port)

    def _end(self):
        """master(8) leads a process group of its own."""
        pid = self._home.master_pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGTERM)
                self.process.wait()
                os.killpg(pid, signal.SIGKILL)

    def log(self):
        path = self._home.log_path
        return self.process.log() + (open(path, errors="replace").read() if os.path.exists(path) else "")

    def connections(self):
        """Without those that probed whether it listens."""
        return len(re.findall(r"disconnect from \S+ (?:ehlo|helo)=", self.log()))


class Exim(_Receiver):
    """Unpacked from its package (which conflicts with Postfix'); appendfile delivers everything into one maildir."""

    CONFIG = """
primary_hostname = exim.example
spool_directory = {home}/spool
log_file_path = {home}/%slog
pid_file_path = {home}/exim.pid
local_interfaces = <; {address}
daemon_smtp_ports = {port}
daemon_startup_retries = 0
acl_smtp_rcpt = accept
acl_smtp_data = accept
acl_smtp_connect = accept
host_lookup =
rfc1413_query_timeout = 0s
ignore_bounce_errors_after = 0s
message_size_limit = 100M
smtp_accept_max = 100
smtp_accept_queue = 0
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = 0
smtputf8_advertise_hosts = *
accept_8bitmime = true
chunking_advertise_hosts = {chunking}
pipelining_advertise_hosts = *
{tls}
never_users =
keep_environment =
log_selector = +smtp_connection +smtp_protocol_error +smtp_syntax_error +pipelining
queue_only = true
keep_malformed = 1h
begin routers
everything:
  driver = accept
  transport = maildir
begin transports
maildir:
  driver = appendfile
  directory = {home}/mail
  maildir_format
  user = Debian-exim
  create_directory
  envelope_to_add
  return_path_add
begin retry
* * F,1h,1m
begin rewrite
begin authenticators
{authenticators}
"""
    TLS = """
tls_advertise_hosts = *
tls_resumption_hosts = *
tls_certificate = {home}/cert.pem
tls_privatekey = {home}/key.pem
tls_on_connect_ports = {implicit}
"""
    AUTHENTICATOR = """
plain:
  driver = plaintext
  public_name = PLAIN
  server_advertise_condition = ${if def:tls_in_cipher}
  server_condition = ${if and{{eq{$auth2}{%s}}{eq{$auth3}{%s}}}}
  server_set_id = $auth2
"""

    def __init__(self, case, address=None, port=None, chunking=True, certified=None, implicit=False, account=None):
        need_root("Exim")
        self.binary = need_program(os.path.join(PEERS, "exim4-daemon-light/usr/sbin/exim4"))
        owner = user_of("Debian-exim")
        self.address = address or free_address()
        self.port = port or free_port(self.address)
        self.home = case.directory("exim", mode=0o755)
        os.chown(self.home, owner.pw_uid, owner.pw_gid)
        for part in ("spool", "mail"):
            os.chown(case.directory("exim", part), owner.pw_uid, owner.pw_gid)
        self.maildir = os.path.join(self.home, "mail")
        if certified:
            for part in ("cert", "key"):
                copy = os.path.join(self.home, part + ".pem")
                shutil.copyfile(certified[part], copy)
                os.chown(copy, owner.pw_uid, owner.pw_gid)
                os.chmod(copy, 0o600)
        self.config = case.write(
            "exim/exim.conf",
            self.CONFIG.replace("{tls}", self.TLS if certified else "tls_advertise_hosts =")
            .replace("{authenticators}", self.AUTHENTICATOR % account if account else "")
            .replace("{implicit}", str(self.port) if implicit else "")
            .replace("{home}", self.home)
            .replace("{address}", self.address)
            .replace("{port}", str(self.port))
            .replace("{chunking}", "*" if chunking else ""),
        )
        os.chmod(self.config, 0o644)
        self.process = Process(case, "exim", [self.binary, "-C", self.config, "-bdf"], cwd="/")
        self.process.wait_port(self.address, self.port)

    def wait_messages(self, count, timeout_s=None):
        """Exim queues here and delivers when told: one process for all instead of one each."""
        until(lambda: len(re.findall(r" <= ", self.log())) >= count, lambda: "%d messages at Exim; log:\n%s" % (count, self.log()[-3000:]), timeout_s)
        code, output = run_program([self.binary, "-C", self.config, "-qf"], cwd="/", timeout_s=120)
        if code != 0:
            raise AssertionError("exim -qf: %s" % output)
        return super().wait_messages(count, timeout_s)

    def log(self):
        text = self.process.log()
        for name in ("mainlog", "paniclog", "rejectlog"):
            path = os.path.join(self.home, name)
            if os.path.exists(path):
                with open(path, errors="replace") as file:
                    text += file.read()
        return text

    def connections(self):
        """Those that said EHLO: without those that probed whether it listens."""
        return len(re.findall(r"SMTP connection from (?!\[)\S+ \[\S+ (?:closed|lost)", self.log()))


class OpenSmtpd:
    """Unpacked from its package. What it takes it passes on to a FakeMx, whose messages are read: its own delivery agents sit at fixed places.
    Its queue does, too (/var/spool/smtpd), so there is one at a time, and none where a real one is at home."""

    _one_at_a_time = threading.Lock()
    SPOOL = mtasetup.OPENSMTPD_QUEUE
    CONFIG = """
listen on {address} port {port} hostname opensmtpd.example
smtp max-message-size 100M
queue ttl 1h
action "on" relay host "smtp://{behind}:{behind_port}"
match from any for any action "on"
"""

    def __init__(self, case, address=None, port=None):
        binary = _needed(mtasetup.need_opensmtpd, PEERS)
        self._one_at_a_time.acquire()  # pylint: disable=consider-using-with # released by the case
        case.at_end(self._one_at_a_time.release)
        if os.path.exists("/usr/sbin/smtpctl") or (
            os.path.isdir(self.SPOOL + "/queue") and any(files for _, _, files in os.walk(self.SPOOL + "/queue"))
        ):
            raise Skip("an OpenSMTPD is at home on this machine: its queue is %s" % self.SPOOL)
        case.at_end(shutil.rmtree, self.SPOOL, True)
        mtasetup.opensmtpd_directories()
        self.address = address or free_address()
        self.port = port or free_port(self.address)
        behind = free_address()
        self.behind = FakeMx(case, behind, free_port(behind), name="behind-opensmtpd.example", lawful=False)
        config = case.write(
            "opensmtpd.conf",
            self.CONFIG.replace("{address}", self.address)
            .replace("{port}", str(self.port))
            .replace("{behind}", self.behind.address)
            .replace("{behind_port}", str(self.behind.port))
            .lstrip(),
        )
        self.process = Process(case, "opensmtpd", [binary, "-d", "-v", "-f", config], cwd="/")
        self.process.wait_port(self.address, self.port)

    def accepted(self):
        return len(re.findall(r"smtp message .*nrcpt=\d+", self.log()))

    def count(self):
        return len(self.behind.messages)

    def wait_messages(self, count, timeout_s=None):
        until(
            lambda: self.count() >= count,
            lambda: "%d messages behind OpenSMTPD, there are %d; log:\n%s" % (count, self.count(), self.log()[-3000:]),
            timeout_s,
        )
        return [without_envelope_headers(message.content) for message in self.behind.messages]

    def log(self):
        return self.process.log()

    def connections(self):
        """Without those that probed whether it listens."""
        return len(set(re.findall(r"([0-9a-f]{16}) smtp message ", self.log())))


class SmtpSink:
    """Postfix' smtp-sink: takes everything. With `keep` each message is kept in a file."""

    def __init__(self, case, address=None, port=None, keep=False, options=()):
        program = need_program("/usr/sbin/smtp-sink")
        self.address = address or free_address()
        self.port = port or free_port(self.address)
        self._keep = case.directory("sink-%d" % self.port, mode=0o777) if keep else None
        command = [program] + (["-d", os.path.join(self._keep, "m.")] if keep else []) + list(options)
        if os.geteuid() == 0:
            command += ["-u", "root"]
        self.process = Process(case, "smtp-sink-%d" % self.port, command + ["-c", "%s:%d" % (self.address, self.port), "1024"])
        self.process.wait_port(self.address, self.port)

    def stored(self):
        result = []
        for name in sorted(os.listdir(self._keep)):
            with open(os.path.join(self._keep, name), "rb") as file:
                result.append(file.read())
        return result

    def count(self):
        """From its own counter, `sess=.. quit=.. mesg=..`, which it rewrites in place once a second."""
        found = re.findall(r"mesg=(\d+)", self.process.log())
        return int(found[-1]) if found else 0

    def wait_messages(self, count, timeout_s=None):
        until(lambda: self.count() >= count, lambda: "%d messages at smtp-sink, there are %d" % (count, self.count()), timeout_s, every_s=0.05)
        return self.count()


def smtp_source(
    relay, count, sessions=4, sender="source@load.example", recipient="sink@d.example", length=1024, per_connection=True, options=(), timeout_s=120
):
    """Runs Postfix' smtp-source to its end; the messages must all be taken."""
    command = [need_program("/usr/sbin/smtp-source"), "-s", str(sessions), "-m", str(count), "-l", str(length), "-f", sender, "-t", recipient]
    command += ["-d"] if per_connection else []
    code, output = run_program(command + list(options) + ["%s:%d" % (relay.address, relay.port)], timeout_s=timeout_s)
    if code != 0:
        raise AssertionError("smtp-source: %d %s" % (code, output[-2000:]))


def swaks(relay, sender, recipient, content, options=()):
    """Sends these bytes (headers and body, CRLF line ends). Returns the transcript; the message must be taken."""
    program = need_program("swaks")
    command = [
        program,
        "--server",
        relay.address,
        "--port",
        str(relay.port),
        "--helo",
        "swaks.example",
        "--from",
        sender,
        "--to",
        recipient,
        "--data",
        "-",
        "--timeout",
        str(int(PATIENCE_S)),
    ]
    code, output = run_program(command + list(options), stdin=content.replace(b"\r\n", b"\n"))
    if code != 0:
        raise AssertionError("swaks: %d\n%s" % (code, output[-3000:]))
    return output


NODEMAILER = r"""
const nodemailer = require('nodemailer');
const job = JSON.parse(require('fs').readFileSync(0, 'utf8'));
const transport = nodemailer.createTransport({host: job.host, port: job.port, secure: false, ignoreTLS: true, name: 'node.example', pool: job.pool,
  maxConnections: 2, disableFileAccess: true});
Promise.all(job.messages.map(message => {
  const mail = message.raw ? {envelope: message.envelope, raw: Buffer.from(message.raw, 'base64')} : message;
  for (const attachment of mail.attachments || []) attachment.content = Buffer.from(attachment.content, 'base64');
  return transport.sendMail(mail);
})).then(results => {
  console.log(JSON.stringify(results.map(r => ({response: r.response, accepted: r.accepted, rejected: r.rejected}))));
  transport.close();
})
  .catch(error => { console.error(error); process.exit(1); });
"""


def nodemailer(relay, messages, pool=False):
    """Sends with nodemailer; returns what it reports for each message."""
    node = need_program("node", "a Node.js is needed")
    home = os.path.join(PEERS, "node")
    if not os.path.isdir(os.path.join(home, "node_modules/nodemailer")):
        raise Skip("no nodemailer in %s; tests/lib/get-peers.sh fetches it" % home)
    job = json.dumps({"host": relay.address, "port": relay.port, "pool": pool, "messages": messages})
    done = subprocess.run(
        [node, "-e", NODEMAILER], input=job.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=home, timeout=60, check=False
    )
    if done.returncode != 0:
        raise AssertionError("nodemailer: %s" % done.stderr.decode()[-2000:])
    return json.loads(done.stdout)


def parse(content):
    """As a mail program would read it."""
    return email.message_from_bytes(content)
