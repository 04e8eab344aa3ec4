"""Where a webhook may go, held against the ways in which a URL is made to lead elsewhere."""

from collections.abc import Callable, Sequence

import pytest

from schema.errors import BadTarget
from schema.targets import Target, is_public, locate

PUBLIC = "93.184.216.34"


def answering(*addresses: str) -> Callable[[str, int], Sequence[str]]:
    """Return a resolver that knows every name by the same addresses."""
    return lambda host, port: list(addresses)


def never(host: str, port: int) -> Sequence[str]:
    raise AssertionError(f"{host} was looked up")


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://hooks.example.com", Target("https", "hooks.example.com", 443, "/", (PUBLIC,))),
        ("HTTPS://Hooks.Example.COM./a%20b?c=d", Target("https", "hooks.example.com", 443, "/a%20b?c=d", (PUBLIC,))),
        ("https://hooks.example.com:8443/x", Target("https", "hooks.example.com", 8443, "/x", (PUBLIC,))),
        ("https://xn--bcher-kva.example/", Target("https", "xn--bcher-kva.example", 443, "/", (PUBLIC,))),
    ],
)
def test_a_public_name_is_taken_with_all_its_addresses(url: str, target: Target) -> None:
    assert locate(url, resolve=answering(PUBLIC)) == target


def test_public_addresses_need_no_resolver() -> None:
    assert locate(f"https://{PUBLIC}/", resolve=never).addresses == (PUBLIC,)
    assert locate("https://[2606:4700::1111]/", resolve=never).authority == "[2606:4700::1111]"
    assert locate("https://[2606:4700::1111]:444/", resolve=never).authority == "[2606:4700::1111]:444"


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
        "//hooks.example.com/",
        "hooks.example.com",
        "https://",
        "https:///x",
        "https://user@hooks.example.com/",
        "https://user:pass@hooks.example.com/",
        "https://hooks.example.com@127.0.0.1/",
        "https://@127.0.0.1/",
        "https://1.1.1.1&@127.0.0.1#@hooks.example.com/",
        "https://hooks.example.com#@127.0.0.1/",
        "https://hooks.example.com/#",
        "https://hooks.example.com\\@127.0.0.1/",
        "https://127.0.0.1\\.hooks.example.com/",
        "https://hooks.example.com /",
        "https://hooks.example.com/\r\nHost: 127.0.0.1",
        "https://hooks.example.com/\0",
        "https://hooks\texample.com/",
        "https://①②⑦.⓪.⓪.①/",
        "https://bücher.example/",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:65536/",
        "https://hooks.example.com:x/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://[1.2.3.4]/",
        "https://-hooks.example.com/",
        "https://hooks..example.com/",
        "https://%31%32%37.0.0.1/",
        "https://" + "a" * 64 + ".example.com/",
        "https://hooks.example.com/" + "a" * 2000,
        # addresses in other notations
        "https://2130706433/",
        "https://0x7f000001/",
        "https://017700000001/",
        "https://0x7f.0.0.1/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://127.0.1/",
        "https://127.0.0.01/",
        "https://127.0.0.0x1/",
        "https://0/",
        "https://256.1.1.1/",
        "https://1.1.1.1.1/",
        "https://93.184.55330/",
    ],
)
def test_what_is_no_plain_https_url_is_refused_before_anything_is_looked_up(url: str) -> None:
    with pytest.raises(BadTarget):
        locate(url, resolve=never)


NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:7f00:1",
    "::ffff:93.184.216.34",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_public_is_refused_however_it_is_come_by(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(BadTarget):
        locate("https://hooks.example.com/", resolve=answering(address))
    with pytest.raises(BadTarget):
        locate("https://hooks.example.com/", resolve=answering(PUBLIC, address))
    with pytest.raises(BadTarget):
        locate(f"https://[{address}]/" if ":" in address else f"https://{address}/", resolve=never)


@pytest.mark.parametrize("address", [PUBLIC, "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450::1"])
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(address)


def test_a_name_without_an_address_is_refused() -> None:
    with pytest.raises(BadTarget, match="has no address"):
        locate("https://hooks.example.com/", resolve=answering())
    with pytest.raises(BadTarget, match="can't be resolved"):
        locate("https://nobody.invalid/")


def test_localhost_is_refused_by_its_addresses() -> None:
    with pytest.raises(BadTarget, match="which is not public"):
        locate("https://localhost/")


def test_hosts_that_the_operator_named_may_be_anywhere_and_without_https() -> None:
    for trusted in (["hooks.lab"], ["hooks.lab:8080"], ["Hooks.LAB"]):
        found = locate("http://HOOKS.lab:8080/x", trusted, answering("10.1.2.3"))
        assert (found.addresses, found.authority) == (("10.1.2.3",), "hooks.lab:8080")
    for other in ("http://hooks.lab:81/", "https://hooks.lab/", "https://a.hooks.lab:8080/"):
        with pytest.raises(BadTarget):
            locate(other, ["hooks.lab:8080"], answering("10.1.2.3"))
