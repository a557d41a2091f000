"""An HTTPS server of a test, on loopback."""
import http.server
import threading

from harness import free_address, free_port


class Server(http.server.ThreadingHTTPServer):
    """`handler`: a class of Handler. `context` may be replaced."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, case, context, handler):
        address = free_address()
        super().__init__((address, free_port(address)), handler)
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
    def host(self):
        return self.headers["Host"].split(":")[0]

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
