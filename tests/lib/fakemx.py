"""A receiving MX that does as it is told, and judges the client that talks to it.

    mx = FakeMx(t, address, port, script={"RCPT": ["451 4.2.1 later"], "FINAL": Cut()})

With tls=tls_context(certificate) it offers STARTTLS, or, with implicit=True, speaks TLS from the first byte; with accounts={name: password} it offers AUTH.

The script maps a stage (GREETING EHLO HELO STARTTLS HANDSHAKE AUTH MAIL RCPT DATA BDAT FINAL RSET NOOP QUIT) to what is done there: a reply as text (more lines with
"\\r\\n" between), an action below, None for the usual good reply, a list of these (one each time, then None), or a function
(session, argument) that returns one of them. Whatever the client does against RFC 5321, 2920, 3030, 1870, 6152 or 6531, or against what this
server offered, is put into mx.violations, which must be empty at the test's end.
"""
import asyncio
import base64
import dataclasses
import errno
import re
import socket
import ssl
import struct
import threading
import time

from harness import until
from smtp import unstuff

CAPABILITIES = ("PIPELINING", "SIZE 104857600", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
TCP_ESTABLISHED = 1


class Cut:
    """Sends this text, without line end, and closes; with reset the hard way."""

    def __init__(self, text="", reset=False):
        self.text = text
        self.reset = reset


class Silence:
    """Says nothing until the client has gone."""


class Deaf:
    """Sends this text, does not read for so long, and cuts."""

    def __init__(self, text, seconds):
        self.text = text
        self.seconds = seconds


class Slow:
    """Waits before it acts."""

    def __init__(self, seconds, action=None):
        self.seconds = seconds
        self.action = action


class Drip:
    """Sends a reply byte by byte."""

    def __init__(self, reply, pause_s=0.002):
        self.reply = reply
        self.pause_s = pause_s


class Raw:
    """Sends exactly these bytes instead of a reply (none: no reply; two replies: one too many)."""

    def __init__(self, data):
        self.data = data


def tls_context(certificate, most=ssl.TLSVersion.TLSv1_3, tickets=2):
    """For certificate = {"cert": FILE, "key": FILE}."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate["cert"], certificate["key"])
    context.maximum_version = most
    context.num_tickets = tickets
    return context


@dataclasses.dataclass
class Handshake:
    connection: int
    version: str
    resumed: bool
    host: str  # that was asked for; None: none


@dataclasses.dataclass
class Received:
    sender: str
    recipients: list  # those accepted
    content: bytes  # as the client meant it: not dot-stuffed
    parameters: str  # of MAIL
    connection: int
    at: float  # time.time() when the answer to the content was decided
    chunked: bool
    answer: str  # the reply to the content, or the name of the action
    tls: str = ""  # version
    user: str = ""


class Gauge:
    """How many connections are open now and were at most, over all servers that share it (a site)."""

    def __init__(self):
        self._sessions = set()
        self.most = 0

    def enter(self, session):
        self._sessions.add(session)
        self.most = max(self.most, sum(1 for other in self._sessions if other.established()))

    def leave(self, session):
        self._sessions.discard(session)

    @property
    def now(self):
        return sum(1 for session in list(self._sessions) if session.established())


class _Loop:
    """One thread with an event loop for all fake servers of the script."""

    def __init__(self):
        self._lock = threading.Lock()
        self._loop = None

    def get(self):
        with self._lock:
            if not self._loop:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, daemon=True).start()
            return self._loop

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.get()).result(20)


_loop = _Loop()


class _Gone(Exception):
    pass


class Session:
    def __init__(self, mx, connection, number):
        self.mx = mx
        self.socket = connection
        self.number = number
        self.state = {}  # for scripts
        self._in = b""
        self._out = b""
        self.esmtp = False
        self.sender = None
        self.parameters = ""
        self.recipients = []
        self.transactions = 0
        self.user = ""
        self.tls = None
        self._chunks = None

    def established(self):
        try:
            return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_ESTABLISHED
        except OSError:
            return False

    def violation(self, text):
        self.mx.violations.append("connection %d: %s" % (self.number, text))

    async def _send(self, data):
        if self.tls:
            self.tls.write(data)
            data = self._tls_out.read()
        await _loop.get().sock_sendall(self.socket, data)

    async def _flush(self):
        out, self._out = self._out, b""
        if out:
            await self._send(out)

    async def _receive(self):
        try:
            data = await _loop.get().sock_recv(self.socket, 262144)
        except OSError:
            data = b""
        if not data:
            raise _Gone
        return data

    async def _more(self):
        await self._flush()
        while True:
            if not self.tls:
                self._in += await self._receive()
                return
            try:
                data = self.tls.read(262144)
                if not data:
                    raise _Gone
                self._in += data
                return
            except ssl.SSLWantReadError:
                self._tls_in.write(await self._receive())
            except ssl.SSLError:
                raise _Gone from None

    async def _secure(self):
        """The server's side of a handshake."""
        self._tls_in, self._tls_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._host = None
        tls = self.mx.tls.wrap_bio(self._tls_in, self._tls_out, server_side=True)
        self.mx.hosts[tls] = None
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await _loop.get().sock_sendall(self.socket, self._tls_out.read())
                self._tls_in.write(await self._receive())
            except ssl.SSLError as error:
                self.mx.tls_errors.append(str(error))
                raise _Gone from None
        await _loop.get().sock_sendall(self.socket, self._tls_out.read())
        self.tls = tls
        self.mx.handshakes.append(Handshake(self.number, tls.version(), tls.session_reused, self.mx.hosts.pop(tls)))

    async def _shake(self):
        if await self._act("HANDSHAKE", "", "000") == 0 and self._out == b"000\r\n":
            self._out = b""
            await self._secure()
            return True
        await self._flush()
        return False

    async def _line(self):
        while b"\n" not in self._in:
            if len(self._in) > 65536:
                self.violation("endless line")
                raise _Gone
            await self._more()
        line, self._in = self._in.split(b"\n", 1)
        if not line.endswith(b"\r"):
            self.violation("command without CR: %r" % line[:200])
        elif len(line) > 4000:
            self.violation("command of %d bytes" % len(line))
        return line.rstrip(b"\r").decode("utf-8", "surrogateescape")

    async def _exactly(self, count):
        parts = []
        while count:
            if not self._in:
                await self._more()
            part = self._in[:count]
            self._in = self._in[len(part) :]
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    async def _dotted(self):
        parts = []
        tail = b"\r\n"
        while True:
            seen = tail + self._in
            at = seen.find(b"\r\n.\r\n")
            if at >= 0:
                used = at + 5 - len(tail)
                parts.append(self._in[: max(0, used - 3)] if used >= 3 else b"")
                content = b"".join(parts)
                if used < 3:  # the end was cut within ".CRLF"
                    content = content[: len(content) - (3 - used)]
                self._in = self._in[used:]
                return content
            parts.append(self._in)
            tail = seen[-4:]
            self._in = b""
            await self._more()

    async def _act(self, stage, argument, usual):
        """Does what the script says; returns the code that the client sees, or 0."""
        action = self.mx.next_action(stage, self, argument)
        if isinstance(action, Slow):
            await self._flush()
            await asyncio.sleep(action.seconds)
            action = action.action
        if isinstance(action, Deaf):
            self._out += action.text.encode()
            await self._flush()
            await asyncio.sleep(action.seconds)
            action = Cut(reset=True)
        if isinstance(action, Silence):
            await self._flush()
            while True:
                await self._more()
                self._in = b""
        if isinstance(action, Cut):
            self._out += action.text.encode()
            await self._flush()
            if action.reset:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise _Gone
        if isinstance(action, Raw):
            self._out += action.data
            return int(action.data[:3]) if action.data[:3].isdigit() else 0
        if isinstance(action, Drip):
            await self._flush()
            for byte in action.reply.encode() + b"\r\n":
                await self._send(bytes([byte]))
                await asyncio.sleep(action.pause_s)
            reply = action.reply
        else:
            reply = action if action is not None else usual
            self._out += reply.encode("utf-8", "surrogateescape") + b"\r\n"
        code = int(reply[:3])
        if code == 421:
            await self._flush()
            raise _Gone
        return code

    async def run(self):
        if self.mx.implicit and not await self._shake():
            return
        if await self._act("GREETING", "", "220 %s ESMTP" % self.mx.name) not in (0, 220):
            while True:  # RFC 5321 3.1: 503 to everything but QUIT
                if await self._command(await self._line(), refused=True):
                    return
        if self._in:
            self.violation("talks before the greeting")
        while not await self._command(await self._line()):
            pass
        await self._flush()

    async def _command(self, line, refused=False):
        self.mx.commands.append((self.number, line))
        if not self.tls:
            self.mx.in_clear.append((self.number, line))
        verb, _, argument = line.partition(" ")
        verb = verb.upper()
        if self._in and not self.mx.offers("PIPELINING") and verb != "BDAT":
            self.violation("pipelines behind %r though that was not offered" % line)
        if verb == "QUIT":
            await self._act("QUIT", "", "221 2.0.0 bye")
            await self._flush()
            return True
        if refused:
            self._out += b"503 5.5.1 go away\r\n"
            return False
        handler = getattr(self, "_do_" + verb.lower(), None)
        if not handler:
            self.violation("unknown command %r" % line[:200])
            self._out += b"500 5.5.2 what\r\n"
            return False
        await handler(argument)
        return False

    async def _do_ehlo(self, name):
        if self._in:
            self.violation("pipelines behind EHLO")
        if not re.fullmatch(r"[A-Za-z0-9.\-:\[\]]+", name):
            self.violation("EHLO %r" % name)
        self._reset()
        lines = [self.mx.name] + list(self.mx.capabilities)
        lines += ["STARTTLS"] if self.mx.tls and not self.tls else []
        lines += ["AUTH " + self.mx.mechanisms] if self.mx.accounts and (self.tls or not self.mx.tls) else []
        code = await self._act("EHLO", name, "\r\n".join("250%s%s" % ("-" if i + 1 < len(lines) else " ", text) for i, text in enumerate(lines)))
        self.esmtp = code == 250

    async def _do_helo(self, name):
        self._reset()
        await self._act("HELO", name, "250 " + self.mx.name)
        self.esmtp = False

    async def _do_starttls(self, argument):
        if argument or self.tls or not self.mx.tls:
            self.violation("STARTTLS out of place")
        if self._in:
            self.violation("goes on behind STARTTLS in the clear: %r" % self._in[:80])
        if await self._act("STARTTLS", "", "220 2.0.0 go on") != 220:
            return
        await self._flush()
        if not await self._shake():
            raise _Gone
        self._reset()

    async def _do_auth(self, argument):
        mechanism, _, initial = argument.partition(" ")
        if mechanism not in self.mx.mechanisms.split() or (self.mx.tls and not self.tls) or self.sender is not None:
            self.violation("AUTH %s out of place" % mechanism)
        if mechanism == "PLAIN":
            _, name, password = base64.b64decode(initial, validate=True).split(b"\0")
        else:
            self._out += b"334 VXNlcm5hbWU6\r\n"
            name = base64.b64decode(await self._line(), validate=True)
            self._out += b"334 UGFzc3dvcmQ6\r\n"
            password = base64.b64decode(await self._line(), validate=True)
        right = self.mx.accounts.get(name.decode()) == password.decode()
        if await self._act("AUTH", name.decode(), "235 2.7.0 welcome" if right else "535 5.7.8 wrong name or password") == 235:
            self.user = name.decode()

    def _reset(self):
        self.sender = None
        self.recipients = []
        self._chunks = None

    async def _do_mail(self, argument):
        found = re.fullmatch(r"FROM:<([^<>]*)>(?: (.*))?", argument, re.S)
        if not found or self.sender is not None:
            self.violation("MAIL %r%s" % (argument, " within a transaction" if self.sender is not None else ""))
            self._out += b"503 5.5.1 no\r\n"
            return
        self.parameters = found.group(2) or ""
        self._check_parameters()
        if await self._act("MAIL", found.group(1), "250 2.1.0 ok") in (0, 250):
            self.sender = found.group(1)
            self.transactions += 1

    def _check_parameters(self):
        for parameter in self.parameters.split():
            key, _, value = parameter.partition("=")
            wants = {"SIZE": "SIZE", "BODY": "8BITMIME", "SMTPUTF8": "SMTPUTF8", "RET": "DSN", "ENVID": "DSN", "REQUIRETLS": "REQUIRETLS"}.get(key.upper())
            if not wants or not self.mx.offers(wants) or not self.esmtp:
                self.violation("MAIL parameter %r was not offered" % parameter)
            if key.upper() == "SIZE" and not value.isdigit():
                self.violation("MAIL parameter %r" % parameter)

    async def _do_rcpt(self, argument):
        found = re.fullmatch(r"TO:<([^<>]+)>(?: (.*))?", argument, re.S)
        if not found:
            self.violation("RCPT %r" % argument)
            self._out += b"501 5.5.4 no\r\n"
            return
        if found.group(2) and not self.mx.offers("DSN"):
            self.violation("RCPT parameters %r were not offered" % found.group(2))
        if self.sender is None:
            self._out += b"503 5.5.1 no MAIL\r\n"
            return
        limit = next(
            (int(text.split("RCPTMAX=")[1].split()[0]) for text in self.mx.capabilities if text.startswith("LIMITS") and "RCPTMAX=" in text), None
        )
        if limit and len(self.recipients) >= limit:
            self.violation("more than RCPTMAX=%d recipients" % limit)
        if await self._act("RCPT", found.group(1), "250 2.1.5 ok") in (0, 250, 251):
            self.recipients.append(found.group(1))

    async def _do_data(self, argument):
        if argument:
            self.violation("DATA %r" % argument)
        if self._in:
            self.violation("goes on behind DATA without waiting for the answer: %r" % self._in[:80])
        if self.sender is None or not self.recipients:
            self._out += b"503 5.5.1 no valid recipients\r\n" if self.sender is None else b"554 5.5.1 no valid recipients\r\n"
            return
        code = await self._act("DATA", "", "354 go on")
        if code not in (0, 354):
            self._reset()
            return
        stuffed = await self._dotted()
        if re.search(rb"(?m)^\.(?=[^.\r]|$)", stuffed):
            self.violation("a line that begins with a dot was not stuffed")
        await self._final(unstuff(stuffed), False)

    async def _do_bdat(self, argument):
        found = re.fullmatch(r"(\d+)( LAST)?", argument, re.I)
        if not found or not self.mx.offers("CHUNKING"):
            self.violation("BDAT %r%s" % (argument, "" if found else " is malformed"))
            raise _Gone
        chunk = await self._exactly(int(found.group(1)))
        if self.sender is None or not self.recipients:
            self._out += b"503 5.5.1 no valid recipients\r\n"
            return
        self._chunks = (self._chunks or []) + [chunk]
        if not found.group(2):
            await self._act("BDAT", argument, "250 2.0.0 %d octets" % len(chunk))
            return
        await self._final(b"".join(self._chunks), True)

    async def _final(self, content, chunked):
        if re.search(rb"(?<!\r)\n|\r(?!\n)", content):
            self.violation("bare CR or LF in content")
        if content and not content.endswith(b"\r\n"):
            self.violation("content does not end in CRLF")
        if re.search(rb"[\x80-\xff]", content) and not re.search(r"\b(BODY=8BITMIME|SMTPUTF8)\b", self.parameters.upper()):
            self.violation("8-bit content without BODY=8BITMIME")
        declared = re.search(r"SIZE=(\d+)", self.parameters, re.I)
        if declared and abs(int(declared.group(1)) - len(content)) > len(content) // 10 + 4096:
            self.violation("SIZE=%s for %d bytes" % (declared.group(1), len(content)))
        received = Received(
            self.sender, list(self.recipients), content, self.parameters, self.number, time.time(), chunked, "", self.tls.version() if self.tls else "", self.user
        )
        self._reset()
        self.mx.contents.append(received)
        received.answer = "250"  # what the client may take for granted as soon as bytes of it are out
        try:
            code = await self._act("FINAL", content, "250 2.0.0 taken as %d" % len(self.mx.contents))
            received.answer = str(code)
        except _Gone:
            received.answer = "gone"
            raise

    async def _do_rset(self, _argument):
        self._reset()
        await self._act("RSET", "", "250 2.0.0 ok")

    async def _do_noop(self, _argument):
        await self._act("NOOP", "", "250 2.0.0 ok")


class FakeMx:
    def __init__(
        self,
        case,
        address,
        port,
        script=None,
        capabilities=CAPABILITIES,
        name=None,
        gauge=None,
        lawful=True,
        backlog=1024,
        tls=None,
        implicit=False,
        accounts=None,
        mechanisms="PLAIN LOGIN",
    ):
        self.address = address
        self.port = port
        self.capabilities = list(capabilities)
        self.name = name or "mx.fake.example"
        self.script = dict(script or {})
        self.gauge = gauge or Gauge()
        self.tls = tls
        self.implicit = implicit
        self.accounts = accounts or {}
        self.mechanisms = mechanisms
        self.handshakes = []
        self.tls_errors = []
        self.hosts = {}  # that handshakes under way ask for
        if tls:
            tls.sni_callback = self._asked_for
        self.commands = []  # (connection number, line)
        self.in_clear = []  # those of them that came without TLS
        self.contents = []  # Received: all whole contents that came, whatever was answered
        self.violations = []
        self.connections = 0
        self.unexpected = []  # exceptions of ours
        self._tasks = set()
        self._open = {}
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        until(self._bind, "%s:%d to be free" % (address, port))
        self._listener.listen(backlog)
        self._listener.setblocking(False)
        self._accepting = _loop.call(self._start())
        if lawful:
            case.at_end(self._judge)
        case.at_end(self.close)

    def _asked_for(self, tls, host, _context):
        self.hosts[tls] = host

    def _bind(self):
        """A program being started by another test may hold our probe of this port for an instant, between fork and exec."""
        try:
            self._listener.bind((self.address, self.port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        return True

    async def _start(self):
        return _loop.get().create_task(self._accept())

    async def _accept(self):
        while True:
            connection, _ = await _loop.get().sock_accept(self._listener)
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            session = Session(self, connection, self.connections)
            self.gauge.enter(session)
            self._open[session.number] = session
            task = _loop.get().create_task(self._serve(session))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, session):
        try:
            await session.run()
        except (_Gone, ConnectionError):
            pass
        except Exception as error:  # pylint: disable=broad-except # shown by _judge
            self.unexpected.append(repr(error))
        finally:
            self.gauge.leave(session)
            self._open.pop(session.number, None)
            session.socket.close()

    def next_action(self, stage, session, argument):
        action = self.script.get(stage)
        if callable(action):
            action = action(session, argument)
        if isinstance(action, list):
            return action.pop(0) if action else None
        return action

    def offers(self, keyword):
        return any(text.split()[0].upper() == keyword for text in self.capabilities)

    @property
    def messages(self):
        """What was taken for good: answered with 250."""
        return [content for content in list(self.contents) if content.answer == "250"]

    @property
    def recipients(self):
        return [recipient for message in self.messages for recipient in message.recipients]

    def wait_recipients(self, count, timeout_s=None):
        until(
            lambda: len(self.recipients) >= count, lambda: "%d recipients at %s, there are %d" % (count, self.name, len(self.recipients)), timeout_s
        )
        return self.messages

    @property
    def open_sessions(self):
        return len(self._open)

    def hang_up(self):
        """Closes all connections from this side, without a word."""
        for session in list(self._open.values()):
            session.socket.shutdown(socket.SHUT_RDWR)

    def verbs(self):
        return [line.split(" ")[0].upper() for _, line in list(self.commands)]

    def _judge(self):
        if self.unexpected:
            raise AssertionError("the fake MX itself failed: %s" % self.unexpected[0])
        if self.violations:
            raise AssertionError("%s saw the client break the protocol: %s (of %d)" % (self.name, self.violations[0], len(self.violations)))

    def close(self):
        async def stop():
            self._accepting.cancel()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(self._accepting, *self._tasks, return_exceptions=True)
            self._listener.close()

        if self._listener.fileno() >= 0:
            _loop.call(stop())
