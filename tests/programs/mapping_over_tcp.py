"""Finds out how the NATs on the way map TCP (RFC 5780 section 4.3), with the messages of aioice.

Takes the IP address and the port of a STUN server, and prints a line for each answer, and one for
what comes of them.
"""

import socket
import sys
from collections import OrderedDict

from aioice import stun


class Client:
    """Asks from one local port, over connections that stay open."""

    def __init__(self):
        self.local = ("0.0.0.0", 0)
        self.connections = []

    def ask(self, server, **attributes):
        connection = socket.socket()
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            connection.setsockopt(socket.SOL_SOCKET, option, 1)
        connection.settimeout(20)
        connection.bind(self.local)
        connection.connect(server)
        self.local = connection.getsockname()
        self.connections.append(connection)
        named = OrderedDict((name.replace("_", "-"), value) for name, value in attributes.items())
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, attributes=named)
        connection.sendall(bytes(request))
        answer = self.read(connection)
        assert answer.transaction_id == request.transaction_id
        return answer

    @staticmethod
    def read(connection):
        data = connection.recv(20, socket.MSG_WAITALL)
        length = int.from_bytes(data[2:4], "big")
        return stun.parse_message(data + connection.recv(length, socket.MSG_WAITALL))


def mapping(client, server):
    """Returns the behaviour, by three questions at most."""
    first = client.ask(server).attributes
    origin, other = first["RESPONSE-ORIGIN"], first["OTHER-ADDRESS"]
    print("origin", *origin, "other", *other)
    assert origin == server and other[0] != server[0] and other[1] != server[1]
    assert first["MAPPED-ADDRESS"] == first["XOR-MAPPED-ADDRESS"]
    if first["XOR-MAPPED-ADDRESS"] == client.local:
        return "no NAT"
    second = client.ask((other[0], server[1])).attributes
    assert second["RESPONSE-ORIGIN"] == (other[0], server[1])
    if second["XOR-MAPPED-ADDRESS"] == first["XOR-MAPPED-ADDRESS"]:
        return "endpoint-independent"
    third = client.ask(other).attributes
    if third["XOR-MAPPED-ADDRESS"] == second["XOR-MAPPED-ADDRESS"]:
        return "address-dependent"
    return "address-and-port-dependent"


def main():
    client = Client()
    server = (sys.argv[1], int(sys.argv[2]))
    print("mapping:", mapping(client, server))
    # No answer comes by another connection, so that cannot be asked for.
    refusal = Client().ask(server, CHANGE_REQUEST=6)
    assert refusal.message_class == stun.Class.ERROR
    print("CHANGE-REQUEST:", *refusal.attributes["ERROR-CODE"])


main()
