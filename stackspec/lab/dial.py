"""`ProxyCommand` of ssh: connects to HOST PORT from its network namespace, and passes the socket to ssh.

Run as a script, so it imports nothing from the package. No process remains between ssh and the node.
"""

import array
import socket
import sys


def main() -> None:
    connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
    connection.setblocking(True)
    with socket.socket(fileno=1) as ssh:
        handle = array.array("i", [connection.fileno()])
        ssh.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handle)])


if __name__ == "__main__":
    main()
