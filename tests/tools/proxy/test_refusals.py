"""Nothing reaches a guest but what the gateway asks for."""

import socketserver
import threading
import unittest

from asks import ADDRESSES, HOSTS, TARGETS
from caddy import CADDIES, KEY, Answer, Caddy, each_caddy, request
from guest import Guest
from host import SECRET, key

OLDER = "f" * 32

# The review's rule, but for its domain; its resolver is below.
REVIEWS = r"""
{
    admin off
    auto_https off
}
http://:PORT-OF-THE-TEST {
    bind 127.0.0.1
    @service header_regexp match Host ^port-(\d+)-vm-(\d+)\.
    handle @service {
        reverse_proxy cmux-{re.match.2}.lan:{re.match.1} {
            transport http {
                resolvers udp/127.0.0.1:RESOLVER
            }
        }
    }
    handle {
        respond 404
    }
}
"""
NAMES = {b"cmux-100": "127.9.1.1", b"cmux-200004": "127.9.0.5", b"cmux-0200004": "127.9.0.5"}


class Resolver(socketserver.BaseRequestHandler):
    """Knows the names of the network's DNS: those that guests have told, and the PVE host's."""

    def handle(self):
        data, answerer = self.request
        length = data[12]
        end = data.index(b"\0", 12) + 5
        question = data[12:end]
        address = NAMES.get(data[13 : 13 + length].lower())
        is_a = question[-4:-2] == b"\0\1"
        records = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + bytes(map(int, address.split("."))) if address and is_a else b""
        flags = b"\x81\x80" if address else b"\x81\x83"
        answerer.sendto(data[:2] + flags + b"\0\1" + (b"\0\1" if records else b"\0\0") + b"\0\0\0\0" + question + records, self.client_address)


class Refusals(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.guest = Guest("127.9.0.5")
        # Whatever else has an address that a request could lead to listens on the same port.
        others = ("127.9.1.1", "127.9.0.1", "127.9.0.10", "127.9.0.20", "127.9.0.96", "127.9.0.97", "127.9.0.98", "127.9.0.99", "127.0.0.1", "127.9.1.5")
        cls.others = [Guest(it, cls.guest.port) for it in others]
        cls.daemon = Guest("127.9.0.5", 39375)

    @classmethod
    def tearDownClass(cls):
        for it in (cls.guest, cls.daemon, *cls.others):
            it.close()

    def asked(self):
        """What has reached anybody, since it was asked last."""
        all_of = [self.guest, self.daemon, *self.others]
        asked = [(it.address, it.port, head) for it in all_of for head in it.asked]
        for it in all_of:
            it.asked.clear()
        return asked

    def refuses(self, caddy, request, what):
        answer = Answer(caddy.send(request))
        with self.subTest(what, answer=answer):
            self.assertEqual(answer.status, 404)
            self.assertEqual((answer.fault, answer.body), ("refused", b""))
            self.assertEqual(self.asked(), [])

    @each_caddy()
    def test_hosts_of_the_reviews_form_lead_nowhere(self, caddy):
        for what, (vmid, port, domain) in HOSTS.items():
            port = port.format(port=self.guest.port)
            host = f"port-{port}-vm-{vmid}.{domain}"
            self.refuses(caddy, request(None, authority=host, key=None), f"{what}, by its host alone")
            # The domain is the gateway's to judge, and nothing here goes by it.
            if domain == "example.com":
                self.refuses(caddy, request(f"{vmid}:{port}", authority=host), what)
            else:
                answer = Answer(caddy.send(request(f"200004:{self.guest.port}", authority=host)))
                self.assertEqual(answer.status, 200, answer)
                self.assertEqual([it[0] for it in self.asked()], ["127.9.0.5"])

    def test_the_reviews_rule_fails_the_same_table(self):
        resolver = socketserver.ThreadingUDPServer(("127.0.0.1", 0), Resolver)
        threading.Thread(target=resolver.serve_forever, daemon=True).start()
        for program in CADDIES:
            caddy = Caddy(program, REVIEWS, [("RESOLVER", str(resolver.server_address[1]))])
            failed, reached = [], set()
            for what, (vmid, port, domain) in HOSTS.items():
                host = f"port-{port.format(port=self.guest.port)}-vm-{vmid}.{domain}"
                status = Answer(caddy.send(request(None, authority=host, key=None))).status
                asked = self.asked()
                reached |= {address for address, _, _ in asked}
                if status != 404 or asked:
                    failed.append(what)
            caddy.close()
            with self.subTest(caddy=program):
                for what in (
                    "the PVE host, whose name the network's DNS knows", "leading zeros of a port", "a domain of somebody else",
                    "a domain behind the domain", "a trailing dot", "SSH", "PVE", "the daemon",
                ):
                    self.assertIn(what, failed)
                self.assertEqual(reached, {"127.9.0.5", "127.9.1.1"})
                # A client that may name its target finds out everything; ours names none.
                self.assertGreater(len(failed), len(HOSTS) * 3 // 4)
        resolver.shutdown()
        resolver.server_close()

    @each_caddy()
    def test_targets_that_the_table_has_not(self, caddy):
        for target in TARGETS:
            self.refuses(caddy, request(target.format(port=self.guest.port)), target)
        good = f"200004:{self.guest.port}"
        for twice in ([good, good], [good, f"200005:{self.guest.port}"], [f"200005:{self.guest.port}", good]):
            self.refuses(caddy, request(twice), twice)

    @each_caddy(PVE_IP_POOL_CIDR=None, EDGE_GUEST_NETWORK="127.9.0.0/24")
    def test_addresses_outside_the_network_and_others_in_it(self, caddy):
        for target in ADDRESSES:
            self.refuses(caddy, request(target.format(port=self.guest.port)), target)
        self.assertEqual(caddy.ask(f"127.9.0.5:{self.guest.port}").status, 200)
        self.assertEqual([it[0] for it in self.asked()], ["127.9.0.5"])
        self.assertEqual(caddy.ask(f"127.9.0.21:{self.guest.port}").fault, "dial")

    @each_caddy(PVE_IP_POOL_CIDR="127.9.0.0/16")
    def test_pools_that_are_too_large_for_a_table(self, caddy):
        self.assertEqual(caddy.ask(f"127.9.0.5:{self.guest.port}").status, 200)
        self.assertEqual([it[0] for it in self.asked()], ["127.9.0.5"])
        for target in ("127.9.0.15", "127.9.0.0", "127.9.255.255", "127.9.0.97", "127.0.0.1", "127.10.0.5", "200004"):
            self.refuses(caddy, request(f"{target}:{self.guest.port}"), target)

    @each_caddy(PVE_IP_POOL_CIDR="127.9.0.0/20")
    def test_the_largest_table(self, caddy):
        self.assertEqual(caddy.ask(f"200004:{self.guest.port}").status, 200)
        self.assertEqual(caddy.ask(f"204092:{self.guest.port}").fault, "dial")
        self.asked()
        self.refuses(caddy, request(f"204094:{self.guest.port}"), "beyond the pool")

    @each_caddy(EDGE_SECRET=f"{SECRET} {OLDER}")
    def test_keys(self, caddy):
        to = f"200004:{self.guest.port}"
        for right in (KEY, key(OLDER)):
            self.assertEqual(caddy.ask(to, key=right).status, 200)
        self.asked()
        wrong = [
            None, "", "x", KEY[:-1], KEY + "0", KEY.upper(), "*", KEY[:-1] + "*", f" {KEY} {KEY}", f"{KEY},{KEY}", f"{KEY}, ",
            "{http.request.header.X-Edge-To}", SECRET, key("e" * 32), key(SECRET, "other"), [KEY, KEY], [KEY, "x"], ["x", KEY],
        ]
        for it in wrong:
            self.refuses(caddy, request(to, key=it), it)
        self.refuses(caddy, request(to, key=None, headers=[f"X_Edge_Key: {KEY}"]), "an underscore")
        self.refuses(caddy, request(to, f"/?X-Edge-Key={KEY}", key=None), "the query")

    @each_caddy()
    def test_the_other_headers(self, caddy):
        to = f"200004:{self.guest.port}"
        for name, values in {
            "host": [None, "", "a b", "A.example.com", "a.example.com/x", "a_b", "-a", "a.example.com:", "a:x", ["a", "a"], "a,b", "{http.request.uri}"],
            "public_host": [None, "", "a b", "a/b", ["a", "b"], "a\tb"],
            "client": [None, "", "edge edge", "Edge", "1.2.3.4, 5.6.7.8", "localhost", "unknown", ["edge", "1.2.3.4"], ["edge", "edge"], "x" * 50],
        }.items():
            for value in values:
                self.refuses(caddy, request(to, **{name: value}), (name, value))
        for client in ("203.0.113.7", "2001:db8::1", "::1", "edge"):
            self.assertEqual(caddy.ask(to, client=client).status, 200, client)
        self.asked()

    @each_caddy()
    def test_only_the_deployments_own_calls_reach_the_daemon(self, caddy):
        self.refuses(caddy, request("200004:39375"), "a visitor")
        answer = caddy.ask("200004:39375", client="edge")
        self.assertEqual(answer.status, 200)
        (address, port, head), = self.asked()
        self.assertEqual((address, port), ("127.9.0.5", 39375))
        self.assertNotIn("forwarded", head.lower())
        for port in (22, 25, 111, 2049, 8006):
            self.refuses(caddy, request(f"200004:{port}", client="edge"), port)

    @each_caddy()
    def test_requests_that_are_none(self, caddy):
        to = f"200004:{self.guest.port}"
        for what, text in {
            "no host": request(to, authority=None),
            "a host with a space": request(to, authority="a b"),
            "a host with a slash": request(to, authority="a/b"),
            "two hosts": request(to, headers=["Host: other"]),
            "a name with a space": request(to, headers=["X-Edge-To : 200004:80"]),
            "two lengths": request(to, headers=["Content-Length: 3", "Content-Length: 4"]),
            "a length that is none": request(to, headers=["Content-Length: +3"]),
            "an encoding that is none": request(to, headers=["Transfer-Encoding: chunked, identity"]),
            "a newline in a value": request(to, headers=["X-A: b\n c\x00"]),
        }.items():
            answer = Answer(caddy.send(text))
            with self.subTest(what, answer=answer):
                self.assertIn(answer.status, (400, 501))
                self.assertEqual(self.asked(), [])
        large = Answer(caddy.send(request(to, headers=[f"X-{it}: {'x' * 1000}" for it in range(60)])))
        self.assertEqual((large.status, self.asked()), (431, []))

    @each_caddy()
    def test_what_is_smuggled_in_a_body_is_a_request_without_a_key(self, caddy):
        to = f"200004:{self.guest.port}"
        hidden = f"GET /hidden HTTP/1.1\r\nHost: x\r\nX-Edge-To: {to}\r\nConnection: close\r\n\r\n"
        both = request(to, method="POST", headers=[f"Content-Length: {5 + len(hidden)}", "Transfer-Encoding: chunked"], last=None)
        caddy.send(both + b"0\r\n\r\n" + hidden.encode())
        self.assertFalse([it for it in self.asked() if "/hidden" in it[2].split("\r\n")[0]])


if __name__ == "__main__":
    unittest.main()
