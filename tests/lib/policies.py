"""A web server of MTA-STS policies, for every domain."""
import https

POLICY = "version: STSv1\r\nmode: %s\r\nmx: mx1.%s\r\nmx: *.%s\r\nmax_age: %d\r\n"


class Server(https.Server):
    """Answers for every domain as `answers` says: domain -> (status, type, body) or a function of the handler. Counts what was asked for."""

    def __init__(self, case, context):
        self.answers, self.asked, self.elsewhere = {}, {}, 0
        super().__init__(case, context, Handler)


class Handler(https.Handler):
    def do_GET(self):  # noqa: N802
        host = self.host()
        domain = host.removeprefix("mta-sts.")
        if self.path != "/.well-known/mta-sts.txt" or host == domain:
            self.server.elsewhere += 1
        self.server.asked[domain] = self.server.asked.get(domain, 0) + 1
        answer = self.server.answers.get(domain, (404, "text/plain", "nothing"))
        if callable(answer):
            answer(self)
        else:
            self.reply(*answer)


def policy(domain, mode="enforce", max_age=86400):
    return (200, "text/plain; charset=utf-8", POLICY % (mode, domain, domain, max_age))
