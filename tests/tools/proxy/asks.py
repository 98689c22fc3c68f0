"""The table of hostile requests: what may reach nobody. `{port}` is a port on which a guest listens."""

# Host and port of the review's form, and what is tried with them.
HOSTS = {
    "the PVE host, whose name the network's DNS knows": ("100", "{port}", "example.com"),
    "leading zeros of a port": ("200004", "0{port}", "example.com"),
    "leading zeros of a VMID": ("0200004", "{port}", "example.com"),
    "a sign": ("200004", "+{port}", "example.com"),
    "a domain of somebody else": ("200004", "{port}", "evil.net"),
    "a domain behind the domain": ("200004", "{port}", "example.com.evil.net"),
    "a trailing dot": ("200004", "{port}", "example.com."),
    "labels before the domain": ("200004", "{port}", "a.b.example.com"),
    "a port that there is not": ("200004", "99999", "example.com"),
    "port 0": ("200004", "0", "example.com"),
    "SSH": ("200004", "22", "example.com"),
    "mail": ("200004", "25", "example.com"),
    "portmap": ("200004", "111", "example.com"),
    "NFS": ("200004", "2049", "example.com"),
    "PVE": ("200004", "8006", "example.com"),
    "the daemon": ("200004", "39375", "example.com"),
    "a guest outside the range": ("200255", "{port}", "example.com"),
}

# Targets that the table of VMIDs has not.
TARGETS = [
    "", ":", "200004", "200004:", ":{port}", "200004:{port}:{port}", "200004:{port}.", "200004 :{port}",
    "200004:{port},200004:{port}", "200004;{port}", "100:{port}", "99:{port}", "1:{port}", "999999999:{port}",
    "2000040:{port}", "20000:{port}", "200254:{port}", "-200004:{port}", "0x30d44:{port}", "2e5:{port}",
    "200000:{port}", "200009:{port}", "200019:{port}", "200095:{port}", "200096:{port}", "200097:{port}", "200098:{port}",
    "127.9.0.5:{port}", "localhost:{port}", "[::1]:{port}", "none:{port}", "*:{port}", "{{guest}}:{port}",
    "200004:65536", "200004:65535@127.0.0.1:{port}", "200004:{port}/", "200004:{port}%00", "200004:{port}?x",
    "{{http.request.uri}}:{port}", "200004:{{env.HOME}}",
    "\uff12\u0660\u0660\u0660\u0660\uff14:{port}".encode().decode("latin-1"),
]

# The same where the address itself is sent.
ADDRESSES = [
    "127.9.0.0:{port}", "127.9.0.255:{port}", "127.9.0.1:{port}", "127.9.0.10:{port}", "127.9.0.15:{port}",
    "127.9.0.20:{port}", "127.9.1.5:{port}", "127.8.255.255:{port}", "127.0.0.1:{port}", "127.0.0.1:39370",
    "127.9.0.05:{port}", "127.9.0.5.:{port}", "0127.9.0.5:{port}", "127.9.5:{port}", "0x7f090005:{port}",
    "2131296261:{port}", "127.9.0.256:{port}", "127.9.0.1270:{port}", "127x9x0x5:{port}", "[::ffff:127.9.0.5]:{port}",
    "a.127.9.0.5:{port}", "127.9.0.5\t:{port}", "200004:{port}", "127.9.0.96:{port}", "127.9.0.97:{port}",
    "127.9.0.98:{port}", "127.9.0.99:{port}", "127.9.0.5:22", "127.9.0.5:8006", "127.9.0.5:39375",
]
