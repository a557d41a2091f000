"""A raw SMTP client for probing: says exactly the bytes it is told, when it is told.

    c = Client(address, port)
    c.expect(220)
    c.say("EHLO me.example"); c.expect(250)
"""
import re
import socket

from harness import PATIENCE_S


class Reply:
    def __init__(self, code, lines):
        self.code = code
        self.lines = lines  # without code and separator

    @property
    def text(self):
        return " ".join(self.lines)

    @property
    def enhanced(self):
        found = re.match(r"([245]\.\d{1,3}\.\d{1,3})\b", self.lines[0])
        return found.group(1) if found else None

    def __repr__(self):
        return "%d %s" % (self.code, " / ".join(self.lines))


class Closed(AssertionError):
    """The other side closed where a reply was due."""


class Refused(AssertionError):
    def __init__(self, reply):
        super().__init__("message refused: %r" % reply)
        self.reply = reply


class Client:
    def __init__(self, address, port, source=None, timeout_s=None, nodelay=True):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout_s or PATIENCE_S)
        if nodelay:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect((address, port))
        self._buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def say(self, line):
        self.send((line if isinstance(line, bytes) else line.encode()) + b"\r\n")

    def _line(self):
        while b"\n" not in self._buffer:
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                more = b""
            if not more:
                raise Closed("connection closed where a reply was due; read so far: %r" % self._buffer)
            self._buffer += more
        line, self._buffer = self._buffer.split(b"\n", 1)
        if not line.endswith(b"\r"):
            raise AssertionError("reply line without CR: %r" % line)
        return line[:-1].decode("utf-8", "replace")

    def reply(self):
        lines = []
        while True:
            line = self._line()
            found = re.match(r"(\d{3})([ -])(.*)$|(\d{3})$", line)
            if not found:
                raise AssertionError("no reply line: %r" % line)
            lines.append(found.group(3) or "")
            if found.group(2) != "-":
                return Reply(int(found.group(1) or found.group(4)), lines)

    def expect(self, code, enhanced=None):
        """Reads a reply that must have this code (or one of these), and this enhanced code if given."""
        reply = self.reply()
        codes = code if isinstance(code, tuple) else (code,)
        if reply.code not in codes or (enhanced and reply.enhanced != enhanced):
            raise AssertionError("reply %r, expected %s%s" % (reply, code, " " + enhanced if enhanced else ""))
        return reply

    def ask(self, line, code, enhanced=None):
        self.say(line)
        try:
            return self.expect(code, enhanced)
        except AssertionError as error:
            raise type(error)("after %r: %s" % (line[:200], error)) from None

    def closed(self):
        """Reads until the other side closes; returns what came before that."""
        rest = self._buffer
        self._buffer = b""
        try:
            while True:
                more = self.socket.recv(65536)
                if not more:
                    return rest
                rest += more
        except ConnectionResetError:
            return rest

    def hello(self, name="client.example"):
        self.expect(220)
        return self.ask("EHLO " + name, 250)

    def message(self, sender, recipients, content, mail_parameters=""):
        """A whole transaction with DATA; content is unstuffed bytes ending in CRLF. Returns the reply to the final dot, or 452 to MAIL."""
        reply = self.ask("MAIL FROM:<%s>%s" % (sender, " " + mail_parameters if mail_parameters else ""), (250, 452))
        if reply.code == 452:
            return reply
        for recipient in recipients:
            self.ask("RCPT TO:<%s>" % recipient, 250)
        self.ask("DATA", 354)
        self.send(stuff(content) + b".\r\n")
        return self.reply()

    def quit(self):
        self.ask("QUIT", 221)
        rest = self.closed()
        if rest:
            raise AssertionError("bytes behind the reply to QUIT: %r" % rest)
        self.close()


def stuff(content):
    """Dot-stuffing, RFC 5321 4.5.2."""
    return re.sub(rb"(?m)^\.", b"..", content)


def unstuff(content):
    return re.sub(rb"(?m)^\.", b"", content)


def queue_id(reply):
    """The id in '250 2.0.0 queued as ID', as events show it."""
    found = re.search(r"queued as ([0-9A-Fa-f]+)", reply.text if isinstance(reply, Reply) else reply)
    if not found:
        raise AssertionError("no queue id in %r" % (reply,))
    return "%016x" % int(found.group(1), 16)


def send_message(address, port, sender, recipients, content, mail_parameters="", source=None):
    """One message over an own connection; it must be accepted. Returns its id."""
    with Client(address, port, source=source) as client:
        client.hello()
        reply = client.message(sender, recipients, content, mail_parameters)
        if reply.code != 250:
            raise Refused(reply)
        client.quit()
        return queue_id(reply)
