"""A web server of MTA-STS policies, for every domain."""
import http.server
import threading

from harness import free_address, free_port

POLICY = "version: STSv1\r\nmode: %s\r\nmx: mx1.%s\r\nmx: *.%s\r\nmax_age: %d\r\n"


class Server(http.server.ThreadingHTTPServer):
    """Answers for every domain as `answers` says: domain -> (status, type, body) or a function of the handler. Counts what was asked for."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, case, context):
        self.answers, self.asked, self.elsewhere = {}, {}, 0
        address = free_address()
        super().__init__((address, free_port(address)), Handler)
        self.where = "%s:%d" % self.server_address
        self.context = context
        threading.Thread(target=self.serve_forever, daemon=True).start()
        case.at_end(self.server_close)
        case.at_end(self.shutdown)

    def finish_request(self, request, client_address):
        request.settimeout(20)
        try:
            with self.context.wrap_socket(request, server_side=True) as secured:
                super().finish_request(secured, client_address)
        except OSError:
            pass

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802
        host = self.headers["Host"].split(":")[0]
        domain = host.removeprefix("mta-sts.")
        if self.path != "/.well-known/mta-sts.txt" or host == domain:
            self.server.elsewhere += 1
        self.server.asked[domain] = self.server.asked.get(domain, 0) + 1
        answer = self.server.answers.get(domain, (404, "text/plain", "nothing"))
        if callable(answer):
            answer(self)
        else:
            self.reply(*answer)

    def reply(self, status, kind, body, **headers):
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


def policy(domain, mode="enforce", max_age=86400):
    return (200, "text/plain; charset=utf-8", POLICY % (mode, domain, domain, max_age))
